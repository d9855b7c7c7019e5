"""The latent draw of a variational autoencoder and its divergence from the prior, in one pass."""

import torch
from torch import Tensor

from .dispatch import (
    composed,
    dense,
    differentiate_again,
    in_layout_of,
    one_device,
    packed,
    register_fake,
    require_tensors,
    with_autograd,
)
from .noise import Purpose, noise_like, split_stream, stream


def reparameterize(
    mu: Tensor, logvar: Tensor, key: Tensor, *, step: int = 0, purpose: int = Purpose.LATENT
) -> tuple[Tensor, Tensor]:
    r"""A draw from q = N(mu, diag(e^logvar)) and the divergence of q from the prior, of each sample.

        z    = mu + e^(logvar / 2) eps                                eps ~ N(0, I) from (key, step, purpose)
        kl_b = KL(q_b || N(0, I)) = sum_i (mu_bi^2 + e^logvar_bi - 1 - logvar_bi) / 2          in nats

    Kingma and Welling 2014, arXiv:1312.6114, section 2.4 and appendix B.  mu, logvar: (B, *) of one dtype, float32,
    bfloat16 or float16, contiguous or channels-last (others are copied).  key: (B, 2), see `make_key`.  Returns z in
    the shape and dtype of mu, and kl (B,) float32, summed in float32 in an order that depends on the shape only.

    Differentiable any number of times in mu and logvar; eps is drawn in registers, and again for the backward, which
    is one pass and keeps mu and logvar only.  e^(logvar / 2) is held to e^-87 and e^88, so a logvar up to 176 gives
    a finite z; e^logvar overflows to infinity above 88.7, as in torch.  float64 is computed in float64, by plain
    torch, from the same eps. Raises ValueError or RuntimeError naming the argument.
    """
    counter = stream(purpose, step)
    if (out := _quick(mu, logvar, key, counter)) is not NotImplemented:
        return out
    require_tensors("reparameterize", mu=mu, logvar=logvar, key=key)
    if mu.shape != logvar.shape:
        raise ValueError(f"reparameterize: logvar must have the shape of mu, {tuple(mu.shape)}; got {(*logvar.shape,)}")
    if composed(mu, logvar):
        one_device("reparameterize", mu=mu, logvar=logvar)
        z, kl = reparameterize_reference(mu, logvar, noise_like(mu, key, purpose, step))
        return z.to(mu.dtype), kl
    mu = dense(mu)
    return _fused(mu, in_layout_of(logvar, mu), *packed(key), counter)


def reparameterize_reference(mu: Tensor, logvar: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """`reparameterize` with given noise, in plain torch."""
    return mu + (0.5 * logvar).exp() * eps, 0.5 * (mu.square() + logvar.exp() - 1 - logvar).flatten(1).sum(1)


@register_fake("reparameterize")
def _(mu, logvar, key, stream):
    return torch.empty_like(mu), mu.new_empty(mu.shape[0], dtype=torch.float32)


@register_fake("reparameterize_backward")
def _(grad_z, grad_kl, mu, logvar, key, stream):
    return torch.empty_like(mu), torch.empty_like(mu)


def _setup(ctx, inputs, output):
    mu, logvar, key, ctx.stream = inputs
    ctx.save_for_backward(mu, logvar, key)


def _backward(ctx, grad_z, grad_kl):
    mu, logvar, key = ctx.saved_tensors
    grads = _fused_backward(in_layout_of(grad_z, mu), grad_kl.contiguous(), mu, logvar, key, ctx.stream)
    return *grads, None, None


def _setup_backward(ctx, inputs, output):
    *saved, ctx.stream = inputs
    ctx.save_for_backward(*saved)


def _double_backward(ctx, to_grad_mu, to_grad_logvar):
    """By plain torch, in float32, from the noise drawn once more."""
    grad_z, grad_kl, mu, logvar, key = ctx.saved_tensors
    eps = noise_like(mu, key, *split_stream(ctx.stream))
    found, above = differentiate_again(
        lambda m, v: reparameterize_reference(m, v, eps), [mu.float(), logvar.float()],
        [grad_z.float(), grad_kl], [to_grad_mu.float(), to_grad_logvar.float()],
    )  # fmt: skip
    narrow = [None if g is None else g.to(like.dtype) for g, like in zip(found, (mu, logvar), strict=True)]
    return above[0].to(grad_z.dtype), above[1], *narrow, None, None


_quick, _fused = with_autograd("reparameterize", _setup, _backward)
_, _fused_backward = with_autograd("reparameterize_backward", _setup_backward, _double_backward)
