"""The update of an explicit Runge-Kutta method and its error estimate, each sample with a step size of its own."""

import torch
from torch import Tensor

from ..common.checks import require_number
from .dispatch import (
    composed,
    dense,
    one_device,
    packed,
    per_row,
    register_fake,
    require_optional,
    require_tensors,
    shaped,
    wants_grad,
    without_autograd,
)

MAX_STAGES = 7


def runge_kutta(
    x: Tensor, k: Tensor, c: Tensor, error: Tensor | None = None, *, rtol: float = 0.0, atol: float = 1.0
) -> tuple[Tensor, Tensor | None]:
    r"""(out, err) of one step, or of one stage, in one pass.

        out = x + sum_j c_j k_j
        err = sqrt(mean_i (sum_j error_j k_j / (atol + rtol max(|x|, |out|)))^2)      None without `error`

    x: (B, *) float32; k: (S, B, *) float32, the slopes of S <= 7 stages; c, error:
    (B, S) float32, with the step size in them.  out: (B, *); err: (B,), at most 1 if the step is good: Hairer, Norsett,
    Wanner 1993, Solving Ordinary Differential Equations I, equation II.4.11.  A stage whose c and error are 0 for a
    sample does not touch it, whatever its values.  Float64 x, and a gradient of anything, is computed by plain torch.
    Raises ValueError for a tolerance (rtol >= 0, atol > 0), RuntimeError naming the argument for the rest.
    """
    if (out := _quick(x, k, c, error, rtol, atol)) is not NotImplemented:
        return out
    require_tensors("runge_kutta", x=x, k=k, c=c)
    require_optional("runge_kutta", error=error)
    rtol, atol = require_number("rtol", rtol, least=0), require_number("atol", atol, above=0)
    if composed(x, k) or wants_grad(x, k, c, error):
        one_device("runge_kutta", x=x, k=k, c=c, error=error)
        if k.shape[1:] != x.shape or not 1 <= len(k) <= MAX_STAGES:
            wanted = f"(n, *{tuple(x.shape)}) with n from 1 to {MAX_STAGES}"
            raise RuntimeError(f"runge_kutta: k must have shape {wanted}; got {tuple(k.shape)}")
        shaped("runge_kutta", c=(c, (len(x), len(k))), error=(error, (len(x), len(k))))
        return runge_kutta_reference(x, k, c, error, rtol=rtol, atol=atol)
    x = dense(x)
    strides = (x.numel(), *x.stride())
    if k.shape[1:] == x.shape and k.stride() != strides:
        k = torch.empty_strided(k.shape, strides, dtype=k.dtype, device=k.device).copy_(k)
    out, err = _call(x, k, *packed(c, error), rtol, atol)
    return out, None if error is None else err


def runge_kutta_reference(
    x: Tensor, k: Tensor, c: Tensor, error: Tensor | None = None, *, rtol: float = 0.0, atol: float = 1.0
) -> tuple[Tensor, Tensor | None]:
    """`runge_kutta` in plain torch."""
    out, difference = x, torch.zeros_like(x)
    for j, slope in enumerate(k):
        out = out + _term(c[:, j], slope)
        if error is not None:
            difference = difference + _term(error[:, j], slope)
    if error is None:
        return out, None
    ratio = difference / (atol + rtol * torch.maximum(x.abs(), out.abs()))
    return out, ratio.square().flatten(1).mean(1).sqrt()


def _term(factor: Tensor, slope: Tensor) -> Tensor:
    """Their product; 0 where the factor is."""
    factor = per_row(factor, slope)
    return torch.where(factor == 0, 0, factor * slope)


_quick, _call = without_autograd("runge_kutta")


@register_fake("runge_kutta")
def _(x, k, c, error, rtol, atol):
    return torch.empty_like(x), x.new_empty(0 if error is None else x.shape[0])
