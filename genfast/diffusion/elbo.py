r"""The variational bound of diffusion models: log p(x) from denoising errors alone, without a flow or its divergence.

With s = sigma / alpha, x^ = x_t / alpha = x + s eps, and e = (x - D(x_t, t)) / s, the error in the noise,

    log p(x) >= - KL(N(x, s_max^2 I) || N(0, P I)) - int E|e|^2 dlog s + E log N(x; D at s_min, s_min^2 I)

for every schedule and parameterization: a step of the reverse process from s + ds to s loses
KL = |x - D|^2 / 2 d(1 / s^2) = |e|^2 dlog s to first order, and the last term decodes what t_min leaves.

Of a standard Gaussian N(0, c I) all of it is known: e_0 = (c eps - s x) / (c + s^2), and

    int E|e_0|^2 dlog s = 1/2 [d (log v - log(c + v) + c / (c + v)) - |x|^2 / (c + v)],  v = s^2, s_min^2 to s_max^2,

so only |e|^2 - |e_0|^2 is estimated, with the same eps: the two agree at both ends of time, where most of the variance
would be.

Kingma et al. 2021, arXiv:2107.00630; Song et al. 2021, arXiv:2101.09258; against a Gaussian: Kong et al. 2023,
arXiv:2302.03792.
"""

import math

import torch
from torch import Tensor

from .. import ops
from ..common.checks import require_chunk, require_count
from ..common.keys import require_key
from ..common.units import density, standardized
from ..ops.noise import MAX_STEP
from .likelihood import prior_variance, require_finite, require_samples
from .process.denoisers import Denoiser, Network
from .sampling.sample import network_arguments


@torch.no_grad()
def elbo(
    denoiser: Denoiser,
    x: Tensor,
    key: Tensor,
    *,
    condition: dict[str, Tensor] | None = None,
    samples: int = 32,
    chunk: int = 256,
) -> Tensor:
    """An unbiased estimate of the bound of log p(x_i), nats: (N,) float64.

    x: (N, *) floating point; the network runs on its device.  key: (N, 2), of `ops.make_key`: times and noise of row i
    are functions of it alone, so that what is common to two conditions of one x cancels in their difference.
    condition: keyword arguments of the network, (N, *) each.
    samples: times, evenly spaced in log s with one random offset a row, neighbors with opposite noise: samples + 1
    network evaluations. The standard error is the spread over keys of other seeds: an estimate alone does not tell it.
    chunk: rows a network call.  The state has the dtype of the network, or of x where it has none, at least float32.

    The bound is of the process that draws x_s from q(x_s | x_t, x_0 = D), in infinitely many steps: of the exact D of
    any density its gap is how far the prior N(0, P I), as in `likelihood.log_likelihood`, is from p_t at t_max, and
    O((s_min / std)^4) a dimension. The flow of an inexact D is another model, of which it is no bound.
    Raises ValueError or TypeError naming the argument, FloatingPointError where a result is not finite.
    """
    x = require_samples(denoiser, x)
    require_key(key, len(x))
    chunk, samples = require_chunk(chunk), require_count("samples", samples, 1, 2 * MAX_STEP)
    dtype = torch.promote_types(Network(denoiser.net).dtype or x.dtype, torch.float32)
    index = torch.arange(len(x), device="cpu")
    condition = network_arguments(None, condition, None, index, dtype)[0]
    x = standardized(denoiser.units, x.to(dtype))
    nats = [torch.empty(0, dtype=torch.float64, device=x.device)]
    with denoiser.evaluating():
        for part in index.split(chunk) if len(x) else ():
            conditions = {name: value[part.to(value.device)].to(x.device) for name, value in condition.items()}
            nats.append(_bound(denoiser, x[part], key[part].to(x.device), conditions, samples))
    nats = density(denoiser.units, torch.cat(nats), x.shape[1:])
    require_finite(nats.unsqueeze(0), index)
    return nats


def _bound(denoiser: Denoiser, x: Tensor, key: Tensor, conditions: dict, samples: int) -> Tensor:
    """(B,) float64."""
    schedule, size, c = denoiser.schedule, x.shape[1:].numel(), denoiser.parameterization.data_std**2
    low, high = (-schedule.log_snr(t) / 2 for t in (schedule.t_min, schedule.t_max))
    square = x.double().square().flatten(1).sum(1)
    prior = prior_variance(schedule) / schedule.alpha(schedule.t_max) ** 2
    v_min, v_max = math.exp(2 * low), math.exp(2 * high)
    kl = (size * (v_max / prior - 1 - math.log(v_max / prior)) + square / prior) / 2
    integral = sum(
        sign * (size * (math.log(v) - math.log(c + v) + c / (c + v)) - square / (c + v)) / 2
        for sign, v in ((1, v_max), (-1, v_min))
    )
    first_error = (c**2 * size + v_min * square) / (c + v_min) ** 2
    nats = -kl - integral - (size * math.log(2 * math.pi * v_min) + first_error) / 2

    def excess(log_s: Tensor, number: int) -> Tensor:
        """|e|^2 - |e_0|^2 at log s, (B,). Neighbors have opposite noise: what is linear in it all but cancels."""
        t = schedule.time(-2 * log_s).clamp(schedule.t_min, schedule.t_max)
        k, s, sign = denoiser.coefficients(t), log_s.exp(), 1 - 2 * (number % 2)
        factors = (schedule.alpha(t), sign * schedule.sigma(t), k.c_in, k.p, sign * k.q)
        alpha, sigma, c_in, p, q = (factor.to(x.dtype) for factor in factors)
        stream = {"step": number // 2, "purpose": ops.Purpose.PROBE}
        y = ops.diffuse(x, key, alpha, sigma, c_in, **stream)
        F = ops.dense(denoiser.network(y, k.c_noise.to(x.dtype), **conditions))
        # x - D = c_out (F* - F), where nothing cancels
        error = ops.denoising_loss(F, ops.in_layout_of(x, F), key, p, q, **stream).double() * size * (k.c_out / s) ** 2
        rows = (-1, *[1] * (x.ndim - 1))
        eps = sign * ops.normal(key, x.shape[1:], dtype=torch.float64, **stream)
        known = (c * eps - s.view(rows) * x) / (c + s**2).view(rows)
        return error - known.square().flatten(1).sum(1)

    nats = nats - excess(torch.full_like(square, low), samples) / 2
    u = ops.uniform(key, (), ops.Purpose.TIME, dtype=torch.float64)
    for number in range(samples):
        log_s = low + (high - low) * (number + u) / samples
        nats = nats - (high - low) / samples * excess(log_s, number)
    return nats
