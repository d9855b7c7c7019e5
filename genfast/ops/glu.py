"""Gated linear units: one half of the features gates the other."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .dispatch import composed, differentiate_again, register_fake, require_tensors, with_autograd


def geglu(x: Tensor) -> Tensor:
    """y = a GELU(b), with [a, b] = x along the last dimension and GELU(b) = b Phi(b).  x: (*, 2 D) -> (*, D).

    Shazeer 2020, arXiv:2002.05202.  x: float32, bfloat16 or float16, computed in float32 and rounded once; copied if it
    is not contiguous.  Differentiable any number of times: a backward reads x again and keeps nothing else.  float64 is
    computed in float64, by plain torch.  Raises ValueError or RuntimeError naming the argument.
    """
    return _glu(x, swiglu=False)


def swiglu(x: Tensor) -> Tensor:
    """y = SiLU(a) b, with [a, b] = x along the last dimension and SiLU(a) = a / (1 + e^-a).  Otherwise as `geglu`."""
    return _glu(x, swiglu=True)


def geglu_reference(x: Tensor) -> Tensor:
    """`geglu` in plain torch."""
    a, b = x.chunk(2, -1)
    return a * F.gelu(b)


def swiglu_reference(x: Tensor) -> Tensor:
    """`swiglu` in plain torch."""
    a, b = x.chunk(2, -1)
    return F.silu(a) * b


def _reference(swiglu: bool):
    return swiglu_reference if swiglu else geglu_reference


def _glu(x: Tensor, swiglu: bool) -> Tensor:
    if (out := _quick(x, swiglu)) is not NotImplemented:
        return out
    require_tensors("swiglu" if swiglu else "geglu", x=x)
    if x.ndim == 0 or x.shape[-1] % 2:
        raise ValueError(f"x must have an even last dimension, two halves; got shape {tuple(x.shape)}")
    return _reference(swiglu)(x) if composed(x) else _fused(x.contiguous(), swiglu)


@register_fake("glu")
def _(x, swiglu):
    return x.new_empty((*x.shape[:-1], x.shape[-1] // 2))


@register_fake("glu_backward")
def _(x, grad_y, swiglu):
    return torch.empty_like(x)


def _setup(ctx, inputs, output):
    ctx.save_for_backward(inputs[0])
    ctx.swiglu = inputs[1]


def _backward(ctx, grad):
    (x,) = ctx.saved_tensors
    return _fused_backward(x, grad.contiguous(), ctx.swiglu), None


def _setup_backward(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:2])
    ctx.swiglu = inputs[2]


def _double_backward(ctx, cotangent):
    x, grad = ctx.saved_tensors
    (to_x,), (to_grad,) = differentiate_again(_reference(ctx.swiglu), [x.float()], [grad.float()], [cotangent.float()])
    return to_x.to(x.dtype), to_grad.to(grad.dtype), None


_quick, _fused = with_autograd("glu", _setup, _backward)
_, _fused_backward = with_autograd("glu_backward", _setup_backward, _double_backward)
