"""Group normalization, its affine maps and the activation after it, in one pass."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.checks import require_bool, require_integer, require_number
from .activations import ACTIVATIONS, NAMES, number_of
from .dispatch import (
    HALVES,
    as_eps,
    beside,
    composed,
    dense,
    differentiate_again,
    empty_affine,
    in_layout_of,
    mask,
    one_device,
    register_fake,
    require_optional,
    require_tensors,
    wanted,
    widened,
    widened_others,
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
    add: Tensor | None = None,
    return_sum: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""y = act((1 + scale) (weight x_hat + bias) + shift),  x_hat = (x - mean) / sqrt(var + eps) over each group.

    Group normalization (Wu and He 2018, arXiv:1803.08494), modulated by sample as in FiLM (Perez et al. 2017,
    arXiv:1709.07871), and "silu", "gelu", "gelu_tanh" or "none".

    x: (N, C, *) float32, bfloat16 or float16, contiguous or channels-last; y is as x.  groups: divides C.  weight,
    bias: (C,), None for 1 and 0.  scale, shift: (N, C), None for 0; they may be columns of a wider table.  Each of them
    is read in float32 or in the dtype of x, and converted from others.  Computed in float32 and rounded once; the
    moments are sums of x less a typical value of the group, so that a large mean costs no digits, in an order that
    depends on the shape and the memory format only.

    add: (C,), (N, C) or like x, is added to x where x is read, and the sum rounded to the type of x before it is
    normalized; with return_sum the answer is y and this sum, which is x itself without add.

    Differentiable any number of times in every tensor: x or the sum, mean and 1 / sqrt(var + eps) are kept for it,
    nothing else.  float64, torch.func and forward mode are computed by plain torch.  Raises ValueError or RuntimeError
    naming the argument.
    """
    number = number_of(act)
    out = _quick(x, groups, weight, bias, scale, shift, add, number, eps, return_sum, False)
    if out is NotImplemented:
        out = _prepared(x, groups, weight, bias, scale, shift, add, act, eps, return_sum)
    if not return_sum:
        return out[0]
    return out[0], x if add is None else out[1]


def _prepared(x, groups, weight, bias, scale, shift, add, act, eps, return_sum) -> tuple[Tensor, Tensor | None]:
    require_tensors("group_norm_act", x=x)
    require_optional("group_norm_act", weight=weight, bias=bias, scale=scale, shift=shift, add=add)
    groups, eps = require_integer("groups", groups), as_eps(eps)
    return_sum = require_bool("return_sum", return_sum)
    if composed(x, weight, bias, scale, shift, add):
        if x.dtype in HALVES:
            weight, bias, scale, shift = widened(weight, bias, scale, shift)
        one_device("group_norm_act", x=x, weight=weight, bias=bias, scale=scale, shift=shift, add=add)
        require_number("group_norm_act: eps", eps, least=0)
        if x.ndim < 2 or groups < 1 or x.shape[1] % groups:
            wanted = f"groups must divide the channels of x, (N, C, *); got {groups} and {tuple(x.shape)}"
            raise RuntimeError(f"group_norm_act: {wanted}")
        return group_norm_act_reference(
            x, groups, weight, bias, scale, shift, act=act, eps=eps, add=add, return_sum=True
        )
    small = widened_others(x, weight, bias, scale, shift)
    x = dense(x)
    if add is not None:
        if add.shape == x.shape:
            add = beside(add.to(x.dtype), x)
        else:
            (add,) = with_rows(*widened_others(x, add))
    return _fused(x, groups, *with_rows(*small), add, number_of(act), eps, return_sum)


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
    add: Tensor | None = None,
    return_sum: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """`group_norm_act` in plain torch."""
    if add is not None:
        x = _plus(x, add)
    same = (None if t is None else t.to(x.dtype) for t in (weight, bias))
    u = _modulate(F.group_norm(x, groups, *same, eps), None if scale is None else 1 + scale, shift)
    y = ACTIVATIONS[act](u)
    return (y, x) if return_sum else y


def _plus(x: Tensor, add: Tensor) -> Tensor:
    """x + add, add (C,), (N, C) or like x, in the dtype of x."""
    if add.shape == x.shape:
        return x + add.to(x.dtype)
    if add.shape not in (x.shape[1:2], x.shape[:2]):
        wanted = f"({x.shape[1]},), {tuple(x.shape[:2])} or {tuple(x.shape)}"
        raise ValueError(f"group_norm_act: add must have shape {wanted}; got {tuple(add.shape)}")
    return (x + add.reshape(*add.shape, *[1] * (x.ndim - 2))).to(x.dtype)


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
def _(x, groups, weight, bias, scale, shift, add, activation, eps, return_sum, keep_moments):
    moments = x.new_empty((2, x.shape[0], groups) if keep_moments else 0, dtype=torch.float32)
    with_sum = add is not None and (return_sum or keep_moments)
    return torch.empty_like(x), torch.empty_like(x) if with_sum else x.new_empty(0), moments


@register_fake("group_norm_act_backward")
def _(dy, x, moments, weight, bias, scale, shift, more, activation, eps, needs):
    return torch.empty_like(x), *empty_affine(x, x.shape[1], needs)


def _setup(ctx, inputs, output):
    x, ctx.groups, *small, add, ctx.activation, ctx.eps, _, ctx.kept = inputs
    _, total, moments = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(moments)
    ctx.add = None if add is None else (add.shape, add.dtype)
    ctx.save_for_backward(x if add is None else total, moments, *small)


def _backward(ctx, dy, to_sum, *_):
    if not ctx.kept:
        raise RuntimeError("group_norm_act: called on tensors that need a gradient with keep_moments=False")
    to_sum = None if ctx.add is None else to_sum  # without add there is no sum, but an empty tensor of torch.compile's
    if dy is None and to_sum is None:
        return (None,) * 11
    x, moments, *small = ctx.saved_tensors
    small = widened(*small)
    needs = ctx.needs_input_grad[2:6]
    dy = torch.zeros_like(x) if dy is None else in_layout_of(dy, x)
    to_sum = None if to_sum is None else in_layout_of(to_sum, x)
    dx, *grads = _fused_backward(dy, x, moments, *small, to_sum, ctx.activation, ctx.eps, mask(needs))
    to_add = _to_add(dx, *ctx.add) if ctx.add and ctx.needs_input_grad[6] else None
    return dx, None, *wanted(grads, needs), to_add, None, None, None, None


def _to_add(dx: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """The gradient of what was added, from that of the sum."""
    if shape == dx.shape:
        return dx.to(dtype)
    over = [*([0] if len(shape) == 1 else []), *range(2, dx.ndim)]
    return (dx.sum(over, dtype=torch.float32) if over else dx).to(dtype)


def _setup_backward(ctx, inputs, output):
    dy, x, moments, *small, more, ctx.activation, ctx.eps, _ = inputs
    ctx.more = more is not None
    ctx.set_materialize_grads(False)
    ctx.groups = moments.shape[2]
    ctx.save_for_backward(dy, x, *small)


def _double_backward(ctx, *cotangents):
    dy, x, *small = ctx.saved_tensors

    def function(x, *small):
        return group_norm_act_reference(x, ctx.groups, *small, act=NAMES[ctx.activation], eps=ctx.eps)

    wide = [t if t is None else t.float() for t in (x, *small)]
    to_more = cotangents[0] if ctx.more else None
    cotangents = [c if c is None else c.float() for c in cotangents]
    (to_x, *to_small), (to_dy,) = differentiate_again(function, wide, [dy.float()], cotangents)
    to_dy = None if to_dy is None else to_dy.to(dy.dtype)
    return to_dy, None if to_x is None else to_x.to(x.dtype), None, *to_small, to_more, None, None, None


_quick, _fused = with_autograd("group_norm_act", _setup, _backward, keeps=True, outputs=2)
_, _fused_backward = with_autograd("group_norm_act_backward", _setup_backward, _double_backward)
