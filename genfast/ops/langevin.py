"""The Langevin corrector, its step size set by the norms of each sample."""

import torch
from torch import Tensor

from .dispatch import (
    alike,
    apart,
    beside,
    composed,
    finite_rows,
    packed,
    per_row,
    register_fake,
    require_guided,
    require_optional,
    require_tensors,
    same_batch,
    without_autograd,
)
from .dot import dot_reference
from .noise import Purpose, noise_like, stream


def langevin(
    x: Tensor,
    net: Tensor,
    key: Tensor,
    *,
    alpha: Tensor,
    sigma: Tensor,
    snr: Tensor,
    c_skip: Tensor,
    c_out: Tensor,
    purpose: int = Purpose.CORRECTOR,
    step: int = 0,
    y: Tensor | None = None,
    c_in: Tensor | None = None,
    unconditional: Tensor | None = None,
    guidance: Tensor | None = None,
) -> None:
    r"""One step of Langevin dynamics towards p_t, in place. Song et al. 2021, arXiv:2011.13456, algorithm 4.

        F   = F_u + w (F_c - F_u)                     where unconditional is given
        D   = c_skip x + c_out F
        g   = (alpha D - x) / sigma^2                 the score
        eps = 2 (snr |z| / |g|)^2                     0 where g = 0
        x'  = x + eps g + sqrt(2 eps) z               z ~ N(0, I) from (key, step, purpose)
        y   = c_in x'

    The norms are those of each sample (the paper's code takes their means over the batch), summed in float32 in an
    order that depends on the shape only. x: (B, *) float32, becomes x'. net, unconditional: (B, *) the network's
    outputs, float32, bfloat16 or float16. y: (B, *) of net's dtype, becomes the next network input. x and y are written
    to: of one memory format, contiguous or channels-last; the rest is of any strides. The coefficients, (B,) float32:
    alpha, sigma, snr (0.16 in the paper), c_skip, c_out, guidance w, and c_in, None for 1. sigma = 0 leaves a sample
    where it is. key: (B, 2), see `make_key`.

    Float64 state is computed in float64, by plain torch. Not differentiable: use `langevin_reference`. Raises
    ValueError or RuntimeError naming the argument.
    """
    counter = stream(purpose, step)
    done = _quick(x, net, key, alpha, sigma, snr, c_skip, c_out, counter, y, c_in, unconditional, guidance)
    if done is not NotImplemented:
        return
    tensors = {"x": x, "net": net, "key": key, "alpha": alpha, "sigma": sigma, "snr": snr, "c_skip": c_skip}
    require_tensors("langevin", **tensors, c_out=c_out)
    require_optional("langevin", y=y, unconditional=unconditional)
    require_guided("langevin", unconditional, guidance)
    coefficients = {"alpha": alpha, "sigma": sigma, "snr": snr, "c_skip": c_skip, "c_out": c_out}
    same_batch("langevin", x, **coefficients, c_in=c_in, guidance=guidance)
    if composed(x):
        alike("langevin", x=x, net=net, unconditional=unconditional, y=y)
        finite_rows("langevin", x, **coefficients, c_in=c_in, guidance=guidance)
        apart("langevin", {"x": x, "y": y}, {"net": net, "unconditional": unconditional})
        with torch.no_grad():
            z = noise_like(x, key, purpose, step)
            following = langevin_reference(x, net, z, **coefficients, unconditional=unconditional, guidance=guidance)
            x.copy_(following)
            if y is not None:
                y.copy_(following if c_in is None else per_row(c_in, x) * following)
        return
    net, unconditional = beside(net, x), beside(unconditional, x)
    key, c_in, guidance, *rest = packed(key, c_in, guidance, *coefficients.values())
    _call(x, net, key, *rest, counter, y, c_in, unconditional, guidance)


def langevin_reference(
    x: Tensor,
    net: Tensor,
    z: Tensor,
    *,
    alpha: Tensor,
    sigma: Tensor,
    snr: Tensor,
    c_skip: Tensor,
    c_out: Tensor,
    unconditional: Tensor | None = None,
    guidance: Tensor | None = None,
) -> Tensor:
    """x' of `langevin` from given noise, in plain torch, in the dtype of x."""
    net = net.to(x.dtype)
    if unconditional is not None:
        w = per_row(guidance, x)
        net = torch.where(w == 1, net, unconditional + w * (net - unconditional))
    scaled = per_row(alpha, x) * (per_row(c_skip, x) * x + per_row(c_out, x) * net) - x  # sigma^2 g
    norm = dot_reference(scaled, scaled).sqrt()
    m = torch.where(norm == 0, 0, snr * sigma * dot_reference(z, z).sqrt() / norm)
    return x + per_row(2 * m**2, x) * scaled + per_row(2 * m * sigma, x) * z


_quick, _call = without_autograd("langevin")


@register_fake("langevin")
def _(x, net, key, alpha, sigma, snr, c_skip, c_out, stream, y, c_in, unconditional, guidance):
    return None
