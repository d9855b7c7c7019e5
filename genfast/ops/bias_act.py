"""A bias and the activation after it, in one pass."""

import functools

import torch
from torch import Tensor

from .activations import ACTIVATIONS, NAMES, number_of
from .dispatch import (
    composed,
    differentiate_again,
    one_device,
    packed,
    register_fake,
    require_optional,
    require_tensors,
    widened,
    widened_others,
    with_autograd,
)


def bias_act(x: Tensor, bias: Tensor | None = None, *, act: str = "silu") -> Tensor:
    """y = act(x + bias).  x: (*, D), float32, bfloat16 or float16, contiguous or copied; bias: (D,), None is zero.

    act: "none", "silu", "gelu", or "gelu_tanh", its approximation by tanh (Hendrycks and Gimpel 2016,
    arXiv:1606.08415).  Computed in float32 and rounded once; a bias is read in float32 or in the dtype of x, and
    converted from others.  Differentiable any number of times: a backward reads x again and keeps nothing else.
    float64 is computed by plain torch.
    Raises ValueError or RuntimeError naming the argument.
    """
    number = number_of(act)
    if (out := _quick(x, bias, number)) is not NotImplemented:
        return out
    require_tensors("bias_act", x=x)
    require_optional("bias_act", bias=bias)
    if x.ndim == 0 or (bias is not None and bias.shape != x.shape[-1:]):
        wanted = f"x must be (*, D) and bias (D,); got {tuple(x.shape)}"
        raise ValueError(wanted + ("" if bias is None else f" and {tuple(bias.shape)}"))
    if composed(x, bias):
        one_device("bias_act", x=x, bias=bias)
        return bias_act_reference(x, bias, act=act)
    return _fused(*packed(x, *widened_others(x, bias)), number)


def bias_act_reference(x: Tensor, bias: Tensor | None = None, *, act: str = "silu") -> Tensor:
    """`bias_act` in plain torch, in the dtype of x."""
    return ACTIVATIONS[act](x if bias is None else x + bias.to(x.dtype))


@register_fake("bias_act")
def _(x, bias, act):
    return torch.empty_like(x)


@register_fake("bias_act_backward")
def _(x, bias, grad_y, act, need_bias):
    return torch.empty_like(x), x.new_empty(x.shape[-1] if need_bias else 0, dtype=torch.float32)


def _setup(ctx, inputs, output):
    x, bias, ctx.act = inputs
    ctx.save_for_backward(x, bias)


def _backward(ctx, grad):
    x, bias = ctx.saved_tensors
    needs_bias = bias is not None and ctx.needs_input_grad[1]
    grad_x, to_bias = _fused_backward(x, *widened(bias), grad.contiguous(), ctx.act, needs_bias)
    return grad_x, to_bias if needs_bias else None, None


def _setup_backward(ctx, inputs, output):
    x, bias, grad, ctx.act, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, bias, grad)


def _double_backward(ctx, *cotangents):
    x, bias, grad = ctx.saved_tensors
    reference = functools.partial(bias_act_reference, act=NAMES[ctx.act])
    cotangents = [None if c is None else c.float() for c in cotangents]
    found = differentiate_again(reference, [x.float(), bias], [grad.float()], cotangents)
    to_x, to_bias, to_grad = (None if t is None else t.to(x.dtype) for t in (*found[0], *found[1]))
    return to_x, None if to_bias is None else to_bias.float(), to_grad, None, None


_quick, _fused = with_autograd("bias_act", _setup, _backward)
_, _fused_backward = with_autograd("bias_act_backward", _setup_backward, _double_backward)
