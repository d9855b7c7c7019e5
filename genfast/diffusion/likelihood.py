r"""Likelihood of diffusion models, by the probability-flow ODE.

With x^ = x_t / alpha and s = sigma / alpha, every schedule has the same flow, and along it the density p^ of x^ obeys

    dx^ / dlog s = x^ - D(x_t, t),      d log p^ / dlog s = -(d - tr dD/dx^),

so that log p_0(x) = log p^(x^ at t_max) + int (d - tr dD/dx^) dlog s, where p^(x^) = alpha^d p_t(alpha x^).

Chen et al. 2018, arXiv:1806.07366; Song et al. 2021, arXiv:2011.13456, section 4.3; Karras et al. 2022,
arXiv:2206.00364, equation 4, for this form of the flow.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from .. import ops
from ..common.checks import (
    as_tensor,
    require_bool,
    require_callable,
    require_choice,
    require_chunk,
    require_count,
    require_floating,
    require_integer,
    require_number,
    require_tensor,
)
from ..common.indices import as_index, chunk_index, chunk_passes, spread
from ..common.log_likelihood import LogLikelihood, NotDifferentiable
from ..common.units import density, standardized
from ..ops.noise import MAX_STEP
from .process.denoisers import Denoiser, Network, require_denoiser
from .process.grids import MAX_STEPS
from .process.schedules import Schedule
from .sampling.sample import network_arguments
from .sampling.settings import DTYPES

DIVERGENCES = ("exact", "rademacher", "gaussian")


class BitsPerDim(NamedTuple):
    """bits: (N,) float64, per dimension.  se: (N,), standard error over the draws; NaN with a single draw."""

    bits: Tensor
    se: Tensor


class _Nodes(NamedTuple):
    """The flow at the times of the integrator, all from the host: lists of numbers, from data to noise.

    y = inner x^;  F = net(y, c_noise);  dx^ / dlog s = keep x^ - c_out F;
    d - tr dD/dx^ = d keep - c_out inner tr dF/dy.
    """

    step: float
    inner: list[float]
    keep: list[float]
    c_out: list[float]
    c_noise: list[float]


def _nodes(denoiser: Denoiser, t_min: float, t_max: float, steps: int) -> _Nodes:
    """At 2 steps + 1 times between t_min and t_max, uniform in log s."""
    low, high = (-denoiser.schedule.log_snr(t) / 2 for t in (t_min, t_max))
    t = denoiser.schedule.time(-2 * torch.linspace(low, high, 2 * steps + 1, dtype=torch.float64, device="cpu"))
    t[0], t[-1] = t_min, t_max
    c, alpha = denoiser.coefficients(t), denoiser.schedule.alpha(t)
    columns = (alpha * c.c_in, 1 - alpha * c.c_skip, c.c_out, c.c_noise)
    return _Nodes((high - low) / steps, *(column.tolist() for column in columns))


def _cotangents(divergence: str, key: Tensor, shape: Sequence[int], probes: range, dtype) -> Iterator[Tensor]:
    """The v of v^T J v, each (B, *shape): the unit vectors, or random ones with E[v v^T] = I. Made anew whenever they
    are needed, always the same: all of them together would take the memory of a Jacobian."""
    size = math.prod(shape)
    for number in range(size) if divergence == "exact" else probes:
        if divergence == "exact":
            v = torch.zeros(len(key), size, dtype=dtype, device=key.device)
            v[:, number] = 1
            yield v.view(-1, *shape)
        elif divergence == "rademacher":
            yield torch.where(ops.uniform(key, shape, ops.Purpose.PROBE, number) < 0.5, -1.0, 1.0).to(dtype)
        else:
            yield ops.normal(key, shape, ops.Purpose.PROBE, number).to(dtype)


def _forms(denoiser: Denoiser, y: Tensor, c_noise: Tensor, condition: dict, cotangents: Callable):
    """F = network(y), (B, *), and for every cotangent v the samples' v^T (dF/dy) v, (B,) float64. Nothing of the graph
    stays."""
    with torch.enable_grad():
        y = y.detach().clone().requires_grad_()
        F = denoiser.network(y, c_noise, **condition)
        forms = []
        for v in cotangents(Network(denoiser.net).dtype or F.dtype):  # in which the way back is
            gradient = (None,)
            if F.requires_grad:
                gradient = torch.autograd.grad(F, y, v.to(F.dtype), retain_graph=True, allow_unused=True)
            if gradient[0] is None:
                raise NotDifferentiable(
                    "net must be differentiable in its input, for the divergence; its answer has no gradient to it"
                )
            forms.append((gradient[0] * v).flatten(1).sum(1, dtype=torch.float64))
    return F.detach(), forms


@torch.inference_mode(False)
@torch.no_grad()
def log_likelihood(
    denoiser: Denoiser,
    x: Tensor,
    *,
    condition: dict[str, Tensor] | None = None,
    divergence: str = "exact",
    probes: int = 1,
    first_probe: int = 0,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    steps: int = 100,
    t_min: float | None = None,
    prior: Callable[[Tensor, float], Tensor] | None = None,
    chunk: int = 64,
    dtype: torch.dtype = torch.float64,
    progress: bool = True,
) -> LogLikelihood:
    r"""log p_0(x_i) in nats under the probability flow of a denoiser: (N,) of them and their standard errors.

    x: (N, *) floating point; the network runs on its device.  condition: keyword arguments of the network, (N, *) each.
    divergence: "exact", d backward passes an evaluation for samples of d numbers; "rademacher" or "gaussian", an
    unbiased estimate from `probes` of them (Hutchinson 1989; Grathwohl et al. 2019, arXiv:1810.01367). Its variance a
    probe is 2 sum_{i!=j} S_ij^2 or 2 |S|_F^2, S the integral over log s of the symmetric part of the network's term of
    dD/dx^, alpha c_in c_out dF/dy. Probes first_probe to first_probe + probes - 1 of (seed, index_i) are the same all
    along the trajectory; further ones refine an estimate. The standard error is itself an estimate from the probes: of
    few it is far too small for some samples (two equal Rademacher probes leave 0), from 16 on it can be relied upon.
    index: (N,) sample indices, by default 0 to N - 1.
    steps: of RK4, uniform in log s from t_min to the schedule's t_max; 4 steps + 1 evaluations, error O(steps^-4).
    t_min: first time at which the network is asked, by default the schedule's. From 0 to t_min the flow takes one Euler
    step in s^2, which leaves a bias O(s_min^4 / std^4) where the data varies on the scale std (without that step, what
    is found is the density of x_0 + s_min eps, and the bias O(s_min^2 / std^2)). With the default, a Gaussian
    component of std 0.14 is off by less than 1e-3 nats a dimension up to 3 std from its mean, on every schedule.
    prior: (x_t, t_max) -> log p_t(x_t), (B,), where that is known. By default N(0, V I) with
    V = (prior_std sigma(t_max) / sigma(1))^2, from which sampling starts in effect. That p_t is not exactly this
    leaves an error of log N(x_t; 0, V I) - log p_t(x_t): up to 0.01 nats a dimension for mixtures of unit scale.
    chunk: samples a network call.  dtype: of the state, float64 or float32; sums over dimensions and time are float64.

    It is a density: of 8-bit data, which have values at equal distances, see `bits_per_dim`. A likelihood is a function
    of (weights, x_i, seed, index_i, settings), as in `sampling.sample`.
    Raises ValueError or TypeError naming the argument, FloatingPointError where a result is not finite.
    """
    x, index = _checked(denoiser, x, index, condition, divergence, dtype)
    probes, chunk = require_integer("probes", probes, 1), require_chunk(chunk)
    steps = require_count("steps", steps, 1, MAX_STEPS)
    first_probe = require_count("first_probe", first_probe, 0, MAX_STEP)
    if divergence != "exact":  # of which no random probe is drawn
        probes = require_count("probes", probes, 1, MAX_STEP + 1 - first_probe)
    require_callable("prior", prior, optional=True)
    progress = require_bool("progress", progress)
    schedule, t_max = denoiser.schedule, denoiser.schedule.t_max
    t_min = require_number("t_min", schedule.t_min if t_min is None else t_min, above=0, below=t_max)
    condition, shape, size, device = condition or {}, x.shape[1:], x.shape[1:].numel(), x.device
    nodes = _nodes(denoiser, t_min, t_max, steps)
    alpha = schedule.alpha(t_max)
    variance = prior_variance(schedule)
    estimates = 1 if divergence == "exact" else probes
    values = torch.empty(estimates, len(x), dtype=torch.float64, device=device)

    passes = list(chunk_passes(index, chunk))
    total = len(passes) * (4 * steps + 1)
    bar = tqdm(total=total, desc="likelihood", unit="evaluation", leave=False, delay=2, disable=not progress)
    with bar, denoiser.evaluating():
        for first, where in passes:
            slots = index[where] - first
            key = ops.make_key(seed, chunk_index(first, chunk), device)
            probing = range(first_probe, first_probe + probes)
            cotangents = functools.partial(_cotangents, divergence, key, shape, probing)
            conditions = {k: spread(v[where.to(v.device)].to(device), slots, chunk) for k, v in condition.items()}

            def flow(x, n, conditions=conditions, cotangents=cotangents):
                """dx^ / dlog s, (chunk, *), and d - tr dD/dx^, (estimates, chunk), at node n."""
                time = torch.full((chunk,), nodes.c_noise[n], dtype=dtype, device=device)
                F, forms = _forms(denoiser, nodes.inner[n] * x, time, conditions, cotangents)
                trace = torch.stack([sum(forms)] if divergence == "exact" else forms)
                bar.update()
                return (
                    nodes.keep[n] * x - nodes.c_out[n] * F.to(dtype),
                    nodes.keep[n] * size - nodes.c_out[n] * nodes.inner[n] * trace,
                )

            state, change = _integrate(flow, spread(x[where.to(device)].to(dtype), slots, chunk), nodes.step, steps)
            end = alpha * state.double()
            if prior is None:
                log_prior = -((end**2).flatten(1).sum(1) / variance + size * math.log(2 * math.pi * variance)) / 2
            else:
                log_prior = as_tensor("prior", prior(end, t_max))
                if log_prior.shape != (chunk,):
                    raise ValueError(f"prior must answer with shape ({chunk},); got {tuple(log_prior.shape)}")
            nats = change + log_prior.to(change) + size * math.log(alpha)
            values[:, where.to(device)] = nats[:, slots.to(device)]
    require_finite(values, index)
    nats, se = _mean(values)
    nats = density(denoiser.units, nats, shape)
    return LogLikelihood(nats, torch.zeros_like(nats) if divergence == "exact" else se)


def _integrate(flow: Callable, x: Tensor, h: float, steps: int) -> tuple[Tensor, Tensor]:
    """x^ at t_max and the integral of d - tr dD/dx^ over log s, from x^ = x at t = 0."""
    # dlog s = d(s^2 / 2) / s^2, so an Euler step in s^2 / 2 from 0 to s_min^2 / 2 is half a unit of log s.
    dx, change = flow(x, 0)
    x, change = x + dx / 2, change / 2
    for n in range(0, 2 * steps, 2):
        dx1, d1 = flow(x, n)
        dx2, d2 = flow(x + h / 2 * dx1, n + 1)
        dx3, d3 = flow(x + h / 2 * dx2, n + 1)
        dx4, d4 = flow(x + h * dx3, n + 2)
        x = x + h / 6 * (dx1 + 2 * dx2 + 2 * dx3 + dx4)
        change = change + h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
    return x, change


def bits_per_dim(
    denoiser: Denoiser,
    x: Tensor,
    *,
    levels: int = 256,
    draws: int = 1,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    probes: int = 1,
    **options,
) -> BitsPerDim:
    r"""An upper bound on -log2 P(x_i) / d of data of `levels` values a dimension, from `draws` uniform dequantizations:
    (N,) bits per dimension and their standard errors.

    A value k owns a bin of width w of the model's line, and P(k) = E_u[w^d p_0(bin(k, u))] >= w^d exp E_u log p_0, so

        bits = log2(1 / w) - E_u[log2 p_0(bin(k, u))] / d,      u ~ U[0, 1)^d.

    x integers, (N, *), 0 to levels - 1: the bins tile [-1, 1], bin(k, u) = 2 (k + u) / levels - 1, and
    log2(1 / w) = log2(levels / 2): 7 with 256 levels. For a model of dequantized data.
    x floating point, -1 to 1 at `levels` equal distances (k / 127.5 - 1, `data.digits` with 17): the bins lie around
    the points, bin(k, u) = 2 (k + u - 1/2) / (levels - 1) - 1, and log2(1 / w) = log2((levels - 1) / 2): 6.994. For a
    model of data at these points.

    A draw has its own probes, so the standard error over draws covers both. The options are those of `log_likelihood`.
    Theis et al. 2016, arXiv:1511.01844; Ho et al. 2019, arXiv:1902.00275.
    """
    draws, probes = require_count("draws", draws, 1, MAX_STEP), require_integer("probes", probes, 1)
    levels = require_count("levels", levels, 2, 2**53)
    x = require_tensor("x", x)
    if x.is_complex() or x.dtype == torch.bool:
        raise TypeError(f"x must be a tensor (N, *) of integers or floating-point numbers; got {x.dtype}")
    if x.ndim < 2:
        raise ValueError(f"x must have shape (N, *); got {tuple(x.shape)}")
    count, shift = (levels - 1, -0.5) if x.is_floating_point() else (levels, 0.0)
    k = x.double() if count == levels else (x.double() + 1) / 2 * count
    whole = k.round()
    # float32 keeps the points of 16-bit data to 0.004 of their distance.
    if not bool(((k - whole).abs() < 0.01).all() & (whole >= 0).all() & (whole < levels).all()):
        expected = "integers from 0 to levels - 1" if count == levels else "-1 to 1 at `levels` equal distances"
        low, high = (f"{value:g}" for value in x.double().aminmax())
        raise ValueError(f"x must be {expected}; got levels = {levels} and values from {low} to {high}")
    index = as_index("index", len(x) if index is None else index)
    if len(index) != len(x):
        raise ValueError(f"index must have shape ({len(x)},), one a sample; got ({len(index)},)")
    key = ops.make_key(seed, index, x.device)
    size = x.shape[1:].numel()
    bits = []
    for draw in range(draws):
        u = ops.uniform(key, x.shape[1:], ops.Purpose.DEQUANTIZE, draw, dtype=torch.float64)
        nats, _ = log_likelihood(
            denoiser, 2 * (whole + u + shift) / count - 1,
            seed=seed, index=index, probes=probes, first_probe=draw * probes, **options,
        )  # fmt: skip
        bits.append(math.log2(count / 2) - nats / (size * math.log(2)))
    return BitsPerDim(*_mean(bits))


def _mean(values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The mean of K tensors (N,) and its standard error, NaN where K = 1. One after the other, because a reduction over
    (K, N) adds in an order that depends on N."""
    count = len(values)
    mean = sum(values) / count
    if count == 1:
        return mean, torch.full_like(mean, math.nan)
    return mean, (sum((value - mean) ** 2 for value in values) / (count * (count - 1))).sqrt()


def prior_variance(schedule: Schedule) -> float:
    """V of the N(0, V I) that stands for p_t at t_max: what sampling starts from at t = 1, carried there."""
    return (schedule.prior_std * schedule.sigma(schedule.t_max) / schedule.sigma(1.0)) ** 2


def require_samples(denoiser: Denoiser, x: Tensor) -> Tensor:
    """x, (N, *) finite numbers; TypeError or ValueError unless it is, and the other a Denoiser."""
    require_denoiser(denoiser)
    x = require_floating("x", x)
    if x.ndim < 2 or x.shape[1:].numel() == 0:
        raise ValueError(f"x must have shape (N, *), samples of at least one number; got {tuple(x.shape)}")
    finite = x.flatten(1).isfinite().all(1)
    if not bool(finite.all()):
        raise ValueError(f"x must be finite; rows {(~finite).nonzero().flatten().tolist()[:5]} are not")
    return x


def require_finite(values: Tensor, index: Tensor):
    finite = values.isfinite().all(0).cpu()
    if not bool(finite.all()):
        raise FloatingPointError(f"the likelihoods of samples {index[~finite].tolist()[:5]} are not finite")


def _checked(denoiser, x, index, condition, divergence, dtype) -> tuple[Tensor, Tensor]:
    """x and the sample indices; a TypeError or ValueError for an argument that is not as `log_likelihood` says."""
    x = require_samples(denoiser, x)
    index = as_index("index", len(x) if index is None else index)
    if len(index) != len(x):
        raise ValueError(f"index must have shape ({len(x)},), one a sample; got ({len(index)},)")
    network_arguments(None, condition, None, index, dtype)  # raises
    require_choice("divergence", divergence, DIVERGENCES)
    require_choice("dtype", dtype, DTYPES)
    return standardized(denoiser.units, x), index
