"""The training loss of every diffusion parameterisation, its noise made anew rather than stored."""

import torch
from torch import Tensor

from .dispatch import composed, per_row, same_batch
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

    net: (B, *) the network's output F, float32, bfloat16 or float16; x0: (B, *) float32 in the memory format of net; p, q,
    weight: (B,) float32, weight None for 1.  Returns (B,) float32, summed in float32 in an order that depends on the shape
    only.  Differentiable twice in net and x0 (and, by plain torch, in p, q and weight); the backward is one pass.  float64
    is computed in float64, by plain torch.
    Raises ValueError or RuntimeError naming the argument.
    """
    same_batch("denoising_loss", x0, p=p, q=q, weight=weight)
    trained = torch.is_grad_enabled() and any(c is not None and c.requires_grad for c in (p, q, weight))
    if trained or composed(net, x0):
        return denoising_loss_reference(net, x0, noise_like(x0, key, purpose, step), p, q, weight)
    return torch.ops.genfast.denoising_loss(net, x0, key, p, q, weight, stream(purpose, step))


def denoising_loss_reference(net: Tensor, x0: Tensor, z: Tensor, p: Tensor, q: Tensor, weight: Tensor | None = None) -> Tensor:
    """`denoising_loss` of given noise, in plain torch."""
    loss = (net - (per_row(p, x0) * x0 + per_row(q, x0) * z)).square().flatten(1).mean(1)
    return loss if weight is None else weight * loss


@torch.library.register_fake("genfast::denoising_loss")
def _(net, x0, key, p, q, weight, stream):
    return x0.new_empty(x0.shape[0])


@torch.library.register_fake("genfast::denoising_loss_backward")
def _(grad, net, x0, key, p, q, weight, stream, need_x0):
    return torch.empty_like(net), torch.empty_like(x0) if need_x0 else x0.new_empty(0)


def _setup(ctx, inputs, output):
    net, x0, key, p, q, weight, ctx.stream = inputs
    ctx.save_for_backward(net, x0, key, p, q, weight)


def _backward(ctx, grad):
    net, x0, key, p, q, weight = ctx.saved_tensors
    need_x0 = ctx.needs_input_grad[1]
    grad_net, grad_x0 = torch.ops.genfast.denoising_loss_backward(
        grad.contiguous(), net, x0, key, p, q, weight, ctx.stream, need_x0
    )
    return grad_net, grad_x0 if need_x0 else None, *[None] * 5


def _setup_backward(ctx, inputs, output):
    grad, net, x0, key, p, q, weight, ctx.stream, ctx.need_x0 = inputs
    ctx.save_for_backward(grad, net, x0, key, p, q, weight)


def _double_backward(ctx, g_net, g_x0):
    """The backward is grad_net = s r and grad_x0 = -p s r, with r = F - p x_0 - q z and s = 2 grad weight / n."""
    grad, net, x0, key, p, q, weight = ctx.saved_tensors
    scale = per_row(2.0 / net[0].numel() * (weight if weight is not None else torch.ones_like(p)), x0)
    z = noise_like(x0, key, ctx.stream & 0xFF, ctx.stream >> 8)
    residual = net.float() - per_row(p, x0) * x0 - per_row(q, x0) * z
    cotangent = g_net.float()
    if ctx.need_x0:
        cotangent = cotangent - per_row(p, x0) * g_x0
    to_grad = (scale * residual * cotangent).flatten(1).sum(1)
    to_net = scale * per_row(grad, x0) * cotangent
    return to_grad, to_net.to(net.dtype), -per_row(p, x0) * to_net, *[None] * 6


torch.library.register_autograd("genfast::denoising_loss", _backward, setup_context=_setup)
torch.library.register_autograd("genfast::denoising_loss_backward", _double_backward, setup_context=_setup_backward)
