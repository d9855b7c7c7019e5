"""Losses of the two sides of a GAN, of their logits, and penalties on the discriminator's gradient."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class PlayerLosses(NamedTuple):
    """Losses of the discriminator and of the generator, (B,) each, or the two functions that give them."""

    discriminator: Tensor | Callable[[Tensor, Tensor], Tensor]
    generator: Tensor | Callable[[Tensor, Tensor], Tensor]


# Of the logits (real, fake), (B,) each. With p = sigmoid(a), softplus(-a) = -log p and softplus(a) = -log(1 - p).
LOSSES = {
    # Goodfellow et al. 2014, arXiv:1406.2661
    "non_saturating": PlayerLosses(
        lambda real, fake: F.softplus(-real) + F.softplus(fake), lambda _, fake: F.softplus(-fake)
    ),
    # Lim and Ye 2017, arXiv:1705.02894
    "hinge": PlayerLosses(lambda real, fake: F.relu(1 - real) + F.relu(1 + fake), lambda _, fake: -fake),
    # Mao et al. 2017, arXiv:1611.04076, of targets 0 and 1
    "least_squares": PlayerLosses(
        lambda real, fake: 0.5 * ((real - 1).square() + fake.square()), lambda _, fake: 0.5 * (fake - 1).square()
    ),
    # Arjovsky et al. 2017, arXiv:1701.07875
    "wasserstein": PlayerLosses(lambda real, fake: fake - real, lambda _, fake: -fake),
    # Jolicoeur-Martineau 2018, arXiv:1807.00734, of pairs; with R1 and R2 it is that of Huang et al. 2025,
    # arXiv:2501.05441
    "relativistic": PlayerLosses(
        lambda real, fake: F.softplus(fake - real), lambda real, fake: F.softplus(real - fake)
    ),
}
PAIRED = {"relativistic"}  # the generator's loss looks at the real logits too


def squared_gradient(logits: Tensor, x: Tensor) -> Tensor:
    """|d D(x_i) / d x_i|^2 of each row, (B,), differentiable again, where rows do not see each other.

    logits: D(x), (B,), with its graph.  x: (B, *), that it was computed from and that requires a gradient.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def zero_centered_penalty(logits: Tensor, x: Tensor) -> Tensor:
    """|grad D(x)|^2 / 2, (B,): R1 at real x, R2 at generated ones. Mescheder et al. 2018, arXiv:1801.04406."""
    return 0.5 * squared_gradient(logits, x)


def one_centered_penalty(logits: Tensor, x: Tensor) -> Tensor:
    """(|grad D(x)| - 1)^2, (B,): the penalty of WGAN-GP at points between real and generated ones (Gulrajani et al.
    2017, arXiv:1704.00028), that of DRAGAN around real ones (Kodali et al. 2017, arXiv:1705.07215)."""
    return ((squared_gradient(logits, x) + 1e-12).sqrt() - 1).square()


def interpolated(real: Tensor, fake: Tensor, u: Tensor) -> Tensor:
    """real + u (fake - real), u: (B,) in [0, 1)."""
    return torch.lerp(real, fake, u.to(real.dtype).reshape(-1, *[1] * (real.ndim - 1)))


def perturbed(real: Tensor, u: Tensor, std: float) -> Tensor:
    """real + std u / 2, std that of all elements of the data, u: (B, *) in [0, 1)."""
    return real + 0.5 * std * u.to(real.dtype)
