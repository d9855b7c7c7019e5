"""Functions of latents and of their log-variances."""

import torch
from torch import Tensor

from .. import ops


def held(x: Tensor, low: float, high: float) -> Tensor:
    """x held to [low, high], whose gradient is passed on beyond it too, where descent leads back: a clamp's is 0 there,
    and what is once outside never returns."""
    return _Held.apply(x, low, high)


def drawn(mu: Tensor, logvar: Tensor, key: Tensor) -> Tensor:
    """A latent of each posterior, mu + exp(logvar / 2) z."""
    return ops.reparameterize(mu, logvar, key)[0]


def kl_beyond(free_bits: float, mu: Tensor, logvar: Tensor) -> Tensor:
    """(B,), of mean sum_j max(free_bits, mean KL_j), KL_j of channel j from N(0, I): what is free is a constant for
    every sample."""
    kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).reshape(*mu.shape[:2], -1).sum(2)
    return torch.where(kl.mean(0) > free_bits, kl, free_bits).sum(1)


def on_sphere(a: Tensor, b: Tensor, u: Tensor) -> Tensor:
    """From a to b on the sphere, lengths interpolated too: directions a/|a| and b/|b| at angle w apart,
    (sin((1 - u) w) a' + sin(u w) b') / sin w; a line where they are parallel."""
    length_a, length_b = a.norm(), b.norm()
    to, of = a / length_a, b / length_b
    w = (to * of).sum().clamp(-1, 1).acos()
    if not w.sin() > 1e-6:
        return torch.lerp(a, b, u)
    direction = (((1 - u) * w).sin() * to + (u * w).sin() * of) / w.sin()
    return torch.lerp(length_a, length_b, u) * direction


class _Held(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, low: float, high: float) -> Tensor:
        return x.clamp(low, high)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        x, ctx.low, ctx.high = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def jvp(ctx, tangent: Tensor, *_) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.where((x < ctx.low) | (x > ctx.high), 0, tangent)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        outward = ((x < ctx.low) & (grad > 0)) | ((x > ctx.high) & (grad < 0))
        return torch.where(outward, 0, grad), None, None
