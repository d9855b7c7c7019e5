"""The sum at the end of a residual block, with its last bias and its factor, in one pass."""

import torch
from torch import Tensor

from ..common.checks import require_number
from .dispatch import (
    composed,
    dense,
    in_layout_of,
    one_device,
    packed,
    register_fake,
    require_optional,
    require_tensors,
    widened_others,
    with_autograd,
)


def residual(x: Tensor, y: Tensor, bias: Tensor | None = None, scale: float = 1.0) -> Tensor:
    """scale (x + (y + bias)).  x, y: (B, C, *), float32, bfloat16 or float16, contiguous or channels-last (others are
    copied) -> as x.  bias: (C,), None is zero: that of the layer which made y without it.  scale: a number, such as
    sqrt(1/2), which keeps the variance level (Song et al. 2021, arXiv:2011.13456).

    Computed in float32 and rounded once.  Linear in x, y and bias; differentiable any number of times, and nothing is
    kept for it.  float64, and y of another dtype than x, are computed by plain torch.
    Raises TypeError, ValueError or RuntimeError naming the argument.
    """
    if (out := _quick(x, y, bias, scale)) is not NotImplemented:
        return out
    require_tensors("residual", x=x, y=y)
    require_optional("residual", bias=bias)
    if y.shape != x.shape:
        raise ValueError(f"residual: y must have the shape of x, {tuple(x.shape)}; got {tuple(y.shape)}")
    if bias is not None and (x.ndim < 2 or bias.shape != x.shape[1:2]):
        wanted = f"residual: x must be (B, C, *) and bias (C,); got {tuple(x.shape)} and {tuple(bias.shape)}"
        raise ValueError(wanted)
    scale = require_number("scale", scale)
    if composed(x, y) or x.dtype != y.dtype:
        one_device("residual", x=x, y=y, bias=bias)
        return residual_reference(x, y, bias, scale)
    x = dense(x)
    return _fused(x, in_layout_of(y, x), *packed(*widened_others(x, bias)), scale)


def residual_reference(x: Tensor, y: Tensor, bias: Tensor | None = None, scale: float = 1.0) -> Tensor:
    """`residual` in plain torch."""
    if bias is not None:
        y = y + bias.to(y.dtype).reshape(-1, *[1] * (y.ndim - 2))
    total = x + y
    return total if scale == 1 else total * scale


@register_fake("residual")
def _(x, y, bias, scale):
    return torch.empty_like(x)


def _setup(ctx, inputs, output):
    *_, ctx.scale = inputs


def _backward(ctx, grad):
    grad = grad if ctx.scale == 1 else grad * ctx.scale
    to_bias = grad.sum([0, *range(2, grad.ndim)], dtype=torch.float32) if ctx.needs_input_grad[2] else None
    return grad, grad, to_bias, None


_quick, _fused = with_autograd("residual", _setup, _backward)
