"""The inner product of each sample of two batches."""

import torch
from torch import Tensor

from .dispatch import alike, composed, dense, in_layout_of, per_row, register_fake, require_tensors, with_autograd


def dot(a: Tensor, b: Tensor) -> Tensor:
    r"""sum_i a_bi b_bi for each sample b: (B,) float32, summed in float32 in an order that depends on the shape only.

    a, b: (B, *) of one dtype (float32, bfloat16 or float16) and of any strides, which gives the same bits. dot(x, x) is
    the squared norm of each sample. Differentiable any number of times in both; float64 is computed in float64, by
    plain torch. Raises RuntimeError naming the argument.
    """
    if (out := _quick(a, b)) is not NotImplemented:
        return out
    require_tensors("dot", a=a, b=b)
    if composed(a, b):
        alike("dot", a=a, b=b)
        if a.dtype != b.dtype:
            raise RuntimeError(f"dot: b must have the dtype of a, {a.dtype}; got {b.dtype}")
        return dot_reference(a, b)
    a = dense(a)
    return _fused(a, in_layout_of(b, a) if a.shape == b.shape else b)


def dot_reference(a: Tensor, b: Tensor) -> Tensor:
    """`dot` in plain torch, at least in float32."""
    wide = torch.promote_types(a.dtype, torch.float32)
    return (a.to(wide) * b.to(wide)).flatten(1).sum(1)


@register_fake("dot")
def _(a, b):
    return a.new_empty(a.shape[0], dtype=torch.float32)


def _setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad):
    a, b = ctx.saved_tensors
    by = per_row(grad, a)
    return tuple((by * other).to(a.dtype) if needed else None for other, needed in zip((b, a), ctx.needs_input_grad))


_quick, _fused = with_autograd("dot", _setup, _backward)
