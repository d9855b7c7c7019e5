"""The training loss of every diffusion parameterization, its noise made anew rather than stored."""

import torch
from torch import Tensor

from .dispatch import (
    alike,
    composed,
    dense,
    finite_rows,
    in_layout_of,
    packed,
    per_row,
    register_fake,
    require_tensors,
    same_batch,
    wants_grad,
    with_autograd,
    without_autograd,
)
from .noise import Purpose, noise_like, stream


def denoising_loss(
    net: Tensor,
    x0: Tensor,
    key: Tensor,
    p: Tensor,
    q: Tensor,
    weight: Tensor | None = None,
    *,
    step: int = 0,
    purpose: int = Purpose.TRAIN,
) -> Tensor:
    r"""loss_b = weight_b mean_i (F_i - (p_b x_0i + q_b z_i))^2, with the z that `diffuse` drew from the same key.

    net: (B, *) the network's output F, float32, bfloat16 or float16; x0: (B, *) float32; both of any strides; p,
    q, weight: (B,) float32, weight None for 1.  Returns (B,) float32, summed in float32 in an order that depends on the
    shape only.  Differentiable twice in net and x0 (and, by plain torch, in p, q and weight): where a gradient is
    wanted the residual is kept in the dtype of net, in place of net, and the backward is one pass over it.  float64 is
    computed in float64, by plain torch. Raises ValueError or RuntimeError naming the argument.
    """
    counter = stream(purpose, step)
    if (out := _quick(net, x0, key, p, q, weight, counter, False)) is not NotImplemented:
        return out[0]
    require_tensors("denoising_loss", net=net, x0=x0, key=key, p=p, q=q)
    same_batch("denoising_loss", x0, p=p, q=q, weight=weight)
    if wants_grad(p, q, weight) or composed(net, x0):
        alike("denoising_loss", x0=x0, net=net)
        finite_rows("denoising_loss", x0, p=p, q=q, weight=weight)
        return denoising_loss_reference(net, x0, noise_like(x0, key, purpose, step), p, q, weight)
    if net.shape == x0.shape:
        net = dense(net)
        x0 = in_layout_of(x0, net)
    return _fused(net, x0, *packed(key, p, q, weight), counter)[0]


def denoising_loss_reference(
    net: Tensor, x0: Tensor, z: Tensor, p: Tensor, q: Tensor, weight: Tensor | None = None
) -> Tensor:
    """`denoising_loss` of given noise, in plain torch."""
    loss = (net - (per_row(p, x0) * x0 + per_row(q, x0) * z)).square().flatten(1).mean(1)
    return loss if weight is None else weight * loss


@register_fake("denoising_loss")
def _(net, x0, key, p, q, weight, stream, keep_residual):
    return x0.new_empty(x0.shape[0]), torch.empty_like(net) if keep_residual else net.new_empty(0)


@register_fake("denoising_loss_backward")
def _(grad, residual, p, weight, need_x0):
    grad_x0 = torch.empty_like(residual, dtype=torch.float32) if need_x0 else grad.new_empty(0)
    return torch.empty_like(residual), grad_x0


def _setup(ctx, inputs, output):
    _, _, _, p, _, weight, _, ctx.kept = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1], p, weight)


def _backward(ctx, grad, grad_residual):
    """The residual is an output too: a second derivative goes through it."""
    if not ctx.kept:
        raise RuntimeError("denoising_loss: called on tensors that need a gradient with keep_residual=False")
    residual, p, weight = ctx.saved_tensors
    need_x0, grad_net, grad_x0 = ctx.needs_input_grad[1], None, None
    if grad is not None:
        grad_net, grad_x0 = _fused_backward(grad.contiguous(), residual, p, weight, need_x0)
    if grad_residual is not None:
        through = -per_row(p, residual) * grad_residual if need_x0 else None
        grad_net = grad_residual if grad is None else grad_net + grad_residual
        grad_x0 = through if grad is None or through is None else grad_x0 + through
    return grad_net, grad_x0 if need_x0 else None, *[None] * 6


def _setup_backward(ctx, inputs, output):
    grad, residual, p, weight, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(grad, residual, p, weight)


def _double_backward(ctx, g_net, g_x0):
    """grad_net = s r and grad_x0 = -p s r with s = 2 grad weight / n: bilinear in grad and the residual r."""
    grad, residual, p, weight = ctx.saved_tensors
    factor = 2.0 / residual[0].numel() * (weight if weight is not None else torch.ones_like(p))
    cotangent = 0.0 if g_net is None else g_net.float()
    if g_x0 is not None and g_x0.numel():
        cotangent = cotangent - per_row(p, residual) * g_x0
    to_grad = factor * (residual.float() * cotangent).flatten(1).sum(1)
    to_residual = per_row(factor * grad, residual) * cotangent
    return to_grad, to_residual.to(residual.dtype), None, None, None


_quick, _ = without_autograd("denoising_loss")
_, _fused = with_autograd("denoising_loss", _setup, _backward, keeps=True)
_, _fused_backward = with_autograd("denoising_loss_backward", _setup_backward, _double_backward)
