"""Group normalization, its affine maps and the activation after it, in one pass."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.checks import require_integer, require_number
from .activations import ACTIVATIONS, number_of, numbered
from .dispatch import (
    as_eps,
    composed,
    dense,
    differentiate_again,
    in_layout_of,
    one_device,
    register_fake,
    require_optional,
    require_tensors,
    with_autograd,
    with_rows,
)


def group_norm_act(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    *,
    act: str = "silu",
    eps: float = 1e-5,
) -> Tensor:
    r"""y = act((1 + scale) (weight x_hat + bias) + shift),  x_hat = (x - mean) / sqrt(var + eps) over each group.

    Group normalization (Wu and He 2018, arXiv:1803.08494), modulated by sample as in FiLM (Perez et al. 2017,
    arXiv:1709.07871), and "silu", "gelu", "gelu_tanh" or "none".

    x: (N, C, *) float32, bfloat16 or float16, contiguous or channels-last; y is as x.  groups: divides C.  weight,
    bias: (C,), None for 1 and 0.  scale, shift: (N, C), None for 0; they may be columns of a wider table.  Computed in
    float32 and rounded once; the moments are sums of x less a typical value of the group, so that a large mean costs no
    digits, in an order that depends on the shape and the memory format only.  Differentiable any number of times in
    every tensor: x, mean and 1 / sqrt(var + eps) are kept for it, nothing else.  float64, torch.func and forward mode
    are computed by plain torch.  Raises ValueError or RuntimeError naming the argument.
    """
    require_tensors("group_norm_act", x=x)
    require_optional("group_norm_act", weight=weight, bias=bias, scale=scale, shift=shift)
    number, groups, eps = number_of(act), require_integer("groups", groups), as_eps(eps)
    if composed(x, weight, bias, scale, shift):
        one_device("group_norm_act", x=x, weight=weight, bias=bias, scale=scale, shift=shift)
        require_number("group_norm_act: eps", eps, least=0)
        if x.ndim < 2 or groups < 1 or x.shape[1] % groups:
            wanted = f"groups must divide the channels of x, (N, C, *); got {groups} and {tuple(x.shape)}"
            raise RuntimeError(f"group_norm_act: {wanted}")
        return group_norm_act_reference(x, groups, weight, bias, scale, shift, act=act, eps=eps)
    small = [t if t is None or t.dtype == torch.float32 else t.float() for t in (weight, bias, scale, shift)]
    return _group_norm_act(dense(x), groups, *with_rows(*small), number, eps)[0]


def group_norm_act_reference(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    *,
    act: str = "silu",
    eps: float = 1e-5,
) -> Tensor:
    """`group_norm_act` in plain torch."""
    same = (None if t is None else t.to(x.dtype) for t in (weight, bias))
    u = _modulate(F.group_norm(x, groups, *same, eps), None if scale is None else 1 + scale, shift)
    return ACTIVATIONS[act](u)


def _modulate(x: Tensor, slope: Tensor | None, offset: Tensor | None) -> Tensor:
    """slope x + offset, each (N, C)."""
    spread = (*x.shape[:2], *[1] * (x.ndim - 2))
    for value in (slope, offset):
        if value is not None and value.shape != x.shape[:2]:
            raise ValueError(f"scale and shift must have shape {tuple(x.shape[:2])}; got {tuple(value.shape)}")
    if slope is not None:
        x = x * slope.reshape(spread).to(x.dtype)
    return x if offset is None else x + offset.reshape(spread).to(x.dtype)


@register_fake("group_norm_act")
def _(x, groups, weight, bias, scale, shift, activation, eps):
    statistics = x.new_empty(x.shape[0], groups, dtype=torch.float32)
    return torch.empty_like(x), statistics, torch.empty_like(statistics)


@register_fake("group_norm_act_backward")
def _(dy, x, mean, rstd, weight, bias, scale, shift, activation, eps):
    return torch.empty_like(x), x.new_empty(x.shape[0], 2, x.shape[1], dtype=torch.float32)


def _setup(ctx, inputs, output):
    x, ctx.groups, *small, ctx.activation, ctx.eps = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(x, *output[1:], *small)


def _backward(ctx, dy, *_):
    x, mean, rstd, *small = ctx.saved_tensors
    if dy is None:
        return (None,) * 8
    dx, sums = _group_norm_act_backward(in_layout_of(dy, x), x, mean, rstd, *small, ctx.activation, ctx.eps)
    return dx, None, *_through(sums[:, 1], sums[:, 0], small, ctx.needs_input_grad[2:6]), None, None


def _through(slope: Tensor, offset: Tensor, small, needs) -> list[Tensor | None]:
    """Gradients of weight, bias, scale, shift from those of slope = weight (1 + scale) and offset = bias (1 + scale) +
    shift, each (N, C)."""
    weight, bias, scale, _ = small
    to_weight, to_bias = (slope, offset) if scale is None else ((1 + scale) * slope, (1 + scale) * offset)
    to_scale = None
    if needs[2]:
        to_scale = slope if weight is None else weight * slope
        to_scale = to_scale if bias is None else torch.addcmul(to_scale, bias, offset)
    return [
        to_weight.sum(0) if needs[0] else None,
        to_bias.sum(0) if needs[1] else None,
        to_scale,
        offset if needs[3] else None,
    ]


def _setup_backward(ctx, inputs, output):
    dy, x, mean, _, *small, ctx.activation, ctx.eps = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(dy, x, mean, *small)


def _double_backward(ctx, to_dx, to_sums):
    """Of u = slope x_hat + offset: `sums` are the gradients of offset and slope."""
    dy, x, mean, *small = ctx.saved_tensors
    weight, bias, scale, shift = small
    spread, act = x.shape[:2], numbered(ctx.activation)
    ones = torch.ones(spread, dtype=torch.float32, device=x.device)
    zeros = torch.zeros_like(ones)
    factor = ones if scale is None else 1 + scale
    slope = factor if weight is None else weight * factor
    offset = zeros if bias is None else bias * factor
    offset = offset if shift is None else offset + shift

    def function(x, slope, offset):
        return act(_modulate(F.group_norm(x, mean.shape[1], eps=ctx.eps), slope, offset))

    to_slope, to_offset = (None, None) if to_sums is None else (to_sums[:, 1], to_sums[:, 0])
    wide = [t if t is None else t.float() for t in (x, slope, offset, dy, to_dx, to_slope, to_offset)]
    (to_x, slope, offset), (to_dy,) = differentiate_again(function, wide[:3], [wide[3]], wide[4:])
    zero = torch.zeros_like(ones)
    needs = [t is not None for t in small]
    through = _through(zero if slope is None else slope, zero if offset is None else offset, small, needs)
    return to_dy.to(dy.dtype), None if to_x is None else to_x.to(x.dtype), None, None, *through, None, None


_group_norm_act = with_autograd("group_norm_act", _setup, _backward)
_group_norm_act_backward = with_autograd("group_norm_act_backward", _setup_backward, _double_backward)
