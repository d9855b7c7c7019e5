"""Losses and penalties of a GAN against their formulas in float64."""

import math

import pytest
import torch

from genfast.gan.losses import (
    LOSSES,
    interpolated,
    one_centered_penalty,
    perturbed,
    squared_gradient,
    zero_centered_penalty,
)


def logits(seed):
    return torch.randn(50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul_(3).requires_grad_()


def sigmoid(v):
    return 1 / (1 + torch.exp(-v))


FORMULAS = {  # (discriminator, generator)
    "non_saturating": (lambda r, f: -sigmoid(r).log() - (1 - sigmoid(f)).log(), lambda r, f: -sigmoid(f).log()),
    "hinge": (
        lambda r, f: torch.where(r < 1, 1 - r, 0.0) + torch.where(f > -1, 1 + f, 0.0), lambda r, f: -f,
    ),
    "least_squares": (lambda r, f: (r - 1) ** 2 / 2 + f**2 / 2, lambda r, f: (f - 1) ** 2 / 2),
    "wasserstein": (lambda r, f: f - r, lambda r, f: -f),
    "relativistic": (lambda r, f: -sigmoid(r - f).log(), lambda r, f: -sigmoid(f - r).log()),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("side", [0, 1])
def test_losses_and_gradients(name, side):
    real, fake = logits(0), logits(1)
    found, expected = (table[name][side](real, fake) for table in (LOSSES, FORMULAS))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    both = [torch.autograd.grad(v.sum(), (real, fake), allow_unused=True) for v in (found, expected)]
    for a, b in zip(*both):
        zero = torch.zeros_like(real)
        torch.testing.assert_close(zero if a is None else a, zero if b is None else b, rtol=1e-9, atol=1e-9)


def test_optimal_discriminator_gives_the_jensen_shannon_divergence():
    """max_D E_p log D + E_q log(1 - D) = 2 JS(p, q) - log 4, at D = p / (p + q)."""
    p = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64)
    q = torch.tensor([0.1, 0.3, 0.2, 0.4], dtype=torch.float64)
    middle = (p + q) / 2
    js = (torch.special.xlogy(p, p / middle) + torch.special.xlogy(q, q / middle)).sum() / 2

    def value(logit):  # the loss is of pairs: each of its two terms under its own distribution
        zero = torch.full_like(logit, torch.inf)
        loss = LOSSES["non_saturating"].discriminator
        return -(torch.nan_to_num(p * loss(logit, -zero)) + torch.nan_to_num(q * loss(zero, logit))).sum()

    best = (p.clamp_min(1e-300) / q).log()
    assert value(best).item() == pytest.approx(2 * js.item() - math.log(4), abs=1e-12)
    for change in (0.1, -0.1):
        assert value(best + change) < value(best)


def test_penalties_of_a_linear_discriminator():
    w = torch.tensor([3.0, -4.0, 12.0], dtype=torch.float64, requires_grad=True)  # |w| = 13
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert squared_gradient(x @ w + 7, x).tolist() == pytest.approx([169.0] * 5)
    for penalty, value, slope in ((zero_centered_penalty, 84.5, w), (one_centered_penalty, 144.0, 24 * w / 13)):
        found = penalty(x @ w + 7, x)
        assert found.tolist() == pytest.approx([value] * 5, rel=1e-9)
        (gradient,) = torch.autograd.grad(found.mean(), w)
        torch.testing.assert_close(gradient, slope.detach(), rtol=1e-9, atol=0)


def test_penalties_keep_rows_apart():
    """D(x) = |x|^2 / 2 has the gradient x."""
    x = torch.arange(12.0, dtype=torch.float64).reshape(3, 2, 2).requires_grad_()
    found = squared_gradient(x.square().flatten(1).sum(1) / 2, x)
    torch.testing.assert_close(found, x.square().flatten(1).sum(1))


def test_points_of_the_penalties():
    real, fake = torch.zeros(3, 2), torch.ones(3, 2)
    assert interpolated(real, fake, torch.tensor([0.0, 0.25, 0.5]))[:, 0].tolist() == [0.0, 0.25, 0.5]
    assert perturbed(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 0.5]]), 1.0).tolist() == [[0.0, 2.25]]
