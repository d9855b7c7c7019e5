"""Checks of a solver: its order of convergence, the law of its samples, and its float32 kernels.

What is checked follows from the plan alone: one that draws no noise integrates the probability-flow ODE, one that does
the reverse SDE; Langevin rows make it a corrector; one that claims order 0 approximates neither.
"""

import functools
import math

import numpy as np
import torch
from torch import Tensor

from .. import ops
from ..diffusion.process.grids import log_snr
from ..diffusion.process.plans import SLOTS, Plan
from ..diffusion.process.schedules import VPLinear
from ..diffusion.sampling.sample import sample
from ..diffusion.solvers import SOLVERS
from ..gaussian.denoiser import GaussianMixtureDenoiser
from .report import Record

SCHEDULE = VPLinear()
SEED = 0
TRAJECTORIES = 100

# Five modes on a circle, of different weights and widths.
_ANGLES = torch.arange(5, dtype=torch.float64) * 0.4 * math.pi
WEIGHTS = torch.tensor([0.1, 0.15, 0.2, 0.25, 0.3], dtype=torch.float64)
MEANS = 1.5 * torch.stack([_ANGLES.cos(), _ANGLES.sin()], 1)
VARIANCES = torch.tensor([0.02, 0.04, 0.06, 0.03, 0.05], dtype=torch.float64)
MIXTURE = GaussianMixtureDenoiser(WEIGHTS, MEANS, VARIANCES, SCHEDULE)

# Least-squares slopes are accepted in these intervals (trajectories near the borders between modes make those of first
# order noisy), and within 0.3 of any other order.
GATES = {1: (0.85, 1.25), 2: (1.8, 2.2), 4: (3.6, 4.3)}
EVALUATIONS = (80, 160, 320, 640)  # of the network, in the runs whose errors make a slope; twice that for an SDE

STANDARD_ERRORS = 5  # allowed between a sample's moment and its truth
ROUNDING = 1e-6  # of the largest element and times the root of the number of rows, in float32


def plan_of(solver: str, steps: int, to_zero: bool = True) -> Plan:
    """The plan on the log-SNR grid, with its last step to t = 0 or, by `to_zero`, without."""
    times = log_snr(SCHEDULE, steps)
    return SOLVERS[solver](SCHEDULE, times if to_zero else times[:-1])


def kind_of(plan: Plan) -> str:
    if plan.snr.any():
        return "corrector"
    if plan.order == 0:
        return "other"
    return "sde" if plan.s.any() else "ode"


def check_solver(solver: str) -> Record:
    """The Record of a solver by its name in SOLVERS."""
    plan = plan_of(solver, 8, to_zero=False)
    kind, order, figures = kind_of(plan), plan.order, {"grid": "log_snr"}
    measured, failures = None, []
    if kind in ("ode", "sde"):
        error, more = (_ode_error, 1) if kind == "ode" else (_weak_error, 2)
        stages = max(1, round(len(plan) / plan.steps))
        counts = [more * evaluations // stages for evaluations in EVALUATIONS]
        errors = [error(plan_of(solver, count, to_zero=False)) for count in counts]
        low, high = GATES.get(order, (order - 0.3, order + 0.3))
        measured = slope(counts, errors)
        figures |= {"gate": [low, high], "steps": counts, "errors": errors}
        if not low <= measured <= high:
            failures.append(f"the measured order, {measured:.3f}, is not within {low:.2f} and {high:.2f}")
    if kind == "sde":
        figures |= _mixture_moments(plan_of(solver, 128))
    elif kind == "corrector":
        figures |= _gaussian_moments(plan_of(solver, 256, to_zero=False))
    elif kind == "other":
        figures |= _point_mass(plan_of(solver, 12, to_zero=False))
        if not figures["spread"] <= 1.1:
            failures.append(f"samples of a point mass have {figures['spread']:.2f} of the noise of the level before")
    for name in ("mean", "covariance"):
        away = figures.get(f"{name}_deviation", 0.0)
        if not away <= STANDARD_ERRORS:
            failures.append(f"the {name} is {away:.1f} standard errors from the truth; {STANDARD_ERRORS} allowed")
    plan = plan_of(solver, 12)
    allowed = ROUNDING * math.sqrt(len(plan))
    figures["rounding"] = _rounding(plan)
    if not figures["rounding"] <= allowed:
        failures.append(f"float32 kernels are {figures['rounding']:.1e} from float64; {allowed:.1e} allowed")
    return Record(solver, kind, tuple(failures), order, measured, figures)


def slope(counts, errors) -> float:
    """Order of convergence: least squares of log error against log steps."""
    if not (np.isfinite(errors).all() and np.greater(errors, 0).all()):
        raise ValueError(f"no order can be measured from the errors {errors} at {counts} steps")
    return float(-np.polyfit(np.log(counts), np.log(errors), 1)[0])


# Order ----------------------------------------------------------------------------------------------------------------


@functools.cache
def exact_flow() -> Tensor:
    """Where the probability-flow ODE of the mixture takes the trajectories of the checks: (TRAJECTORIES, 2), at t_min.

    Not by a Plan: y = x / alpha follows dy/du = y - D with u = log(sigma / alpha), here by 1000 steps of the classical
    Runge-Kutta method, which are within 1e-9.
    """
    low, high = (-SCHEDULE.log_snr(t) / 2 for t in (SCHEDULE.t_min, 1.0))
    nodes = torch.linspace(high, low, 2001, dtype=torch.float64)
    times = SCHEDULE.time(-2 * nodes).tolist()
    times[0], times[-1] = 1.0, SCHEDULE.t_min
    alphas, step = SCHEDULE.alpha(torch.tensor(times)).tolist(), (low - high) / 1000

    def rate(y, node):
        return y - MIXTURE.net(alphas[node] * y, times[node])  # the network of an exact denoiser answers with D

    key = ops.make_key(SEED, torch.arange(TRAJECTORIES))
    z = ops.normal(key, (2,), ops.Purpose.PRIOR, dtype=torch.float64)
    y = SCHEDULE.prior_std * z / alphas[0]
    for node in range(0, 2000, 2):
        k1 = rate(y, node)
        k2 = rate(y + step / 2 * k1, node + 1)
        k3 = rate(y + step / 2 * k2, node + 1)
        k4 = rate(y + step * k3, node + 2)
        y = y + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return alphas[-1] * y


def flow(plan: Plan) -> Tensor:
    """The same trajectories by a plan, through the sampling loop in float64."""
    return sample(MIXTURE, (2,), plan, TRAJECTORIES, seed=SEED, chunk=TRAJECTORIES, dtype=torch.float64, progress=False)


def _ode_error(plan: Plan) -> float:
    return (flow(plan) - exact_flow()).norm(dim=1).mean().item()


# Gaussian data, on which the law of a plan's end follows without sampling noise.
_MEAN, _STD = 0.7, 0.5


def _marginal(t: float) -> tuple[float, float]:
    """Mean and variance of x_t of the Gaussian data."""
    alpha, sigma = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
    return alpha * _MEAN, alpha**2 * _STD**2 + sigma**2


def _weak_error(plan: Plan) -> float:
    """Error of the mean and variance of a plan's end on Gaussian data, which has D = offset + gain x.

    So the state (x, h_0..h_3, the noise that will be drawn again) follows a linear recursion, here from the exact law
    of x_1. Multistage solvers draw one noise stream in several rows.
    """
    last_draw = {int(plan.stream[r, k]): r for r in range(len(plan)) for k in np.flatnonzero(plan.s[r])}
    size, kept = 1 + SLOTS, []  # kept: the streams of the noise in the state
    mean, covariance = np.zeros(size), np.zeros((size, size))
    mean[0], covariance[0, 0] = _marginal(1.0)
    for r in range(len(plan)):
        alpha, variance = plan.alpha[r], plan.alpha[r] ** 2 * _STD**2 + plan.sigma[r] ** 2
        gain = alpha * _STD**2 / variance
        offset = (1 - gain * alpha) * _MEAN
        fresh = 0.0
        drawn = {int(plan.stream[r, k]): plan.s[r, k] for k in np.flatnonzero(plan.s[r])}
        for stream, weight in drawn.items():
            if stream in kept:
                continue
            if last_draw[stream] == r:
                fresh += weight**2
            else:
                kept.append(stream)
                mean, covariance = np.append(mean, 0), np.pad(covariance, (0, 1))
                covariance[-1, -1] = 1
        step, shift = np.eye(len(mean)), np.zeros(len(mean))
        step[0, :size], shift[0] = [plan.a[r] + plan.b[r] * gain, *plan.e[r]], plan.b[r] * offset
        step[0, size:] = [drawn.get(stream, 0.0) for stream in kept]
        for k in np.flatnonzero(plan.writes[r]):
            step[1 + k, :size] = [plan.p[r, k] + plan.q[r, k] * gain, *plan.m[r, k]]
            shift[1 + k] = plan.q[r, k] * offset
        mean, covariance = step @ mean + shift, step @ covariance @ step.T
        covariance[0, 0] += fresh
        done = [size + i for i, stream in enumerate(kept) if last_draw[stream] == r]
        if done:
            kept = [stream for stream in kept if last_draw[stream] != r]
            mean, covariance = np.delete(mean, done), np.delete(np.delete(covariance, done, 0), done, 1)
    expected = _marginal(float(SCHEDULE.t_min))
    return math.hypot(mean[0] - expected[0], covariance[0, 0] - expected[1])


# Law ------------------------------------------------------------------------------------------------------------------


def _deviation(values: Tensor, expected: Tensor | float, allowance: float = 0.0) -> float:
    """Distance of the mean of values: (N, *) from the expected one, beyond the allowance, in standard errors: the
    largest of all entries."""
    values = values.double()
    standard_error = (values.std(0) / math.sqrt(len(values))).clamp(min=1e-30)
    return float((((values.mean(0) - expected).abs() - allowance).clamp(min=0) / standard_error).max())


def _mixture_moments(plan: Plan) -> dict:
    """Mean and covariance of 2048 samples of the mixture by the float32 kernels."""
    x = sample(MIXTURE, (2,), plan, 2048, seed=SEED, chunk=2048, progress=False).double()
    mean = WEIGHTS @ MEANS
    within = (WEIGHTS @ VARIANCES) * torch.eye(2, dtype=torch.float64)
    covariance = torch.einsum("k,ki,kj->ij", WEIGHTS, MEANS - mean, MEANS - mean) + within
    products = torch.einsum("ni,nj->nij", x - mean, x - mean)
    return {"mean_deviation": _deviation(x, mean), "covariance_deviation": _deviation(products, covariance)}


def _gaussian(std: float, dimensions: int = 64) -> GaussianMixtureDenoiser:
    mean = torch.full((1, dimensions), _MEAN, dtype=torch.float64)
    return GaussianMixtureDenoiser(torch.ones(1), mean, torch.tensor([std**2]), SCHEDULE)


def _gaussian_moments(plan: Plan) -> dict:
    """Mean and variance at t_min of 256 samples of Gaussian data in 256 dimensions, by the float32 kernels.

    A Langevin step of signal-to-noise ratio snr, not corrected by Metropolis, settles in high dimensions at
    1 / (1 - snr^2) of the variance (in low ones at more: the score is sometimes near 0); that much is allowed.
    """
    x = sample(_gaussian(_STD, 256), (256,), plan, 256, seed=SEED, chunk=256, progress=False).double()
    mean, variance = _marginal(float(SCHEDULE.t_min))
    snr = plan.snr.max()
    # Per sample first: no independence of the dimensions is assumed.
    return {
        "mean_deviation": _deviation((x - mean).mean(1), 0.0),
        "covariance_deviation": _deviation(((x - mean) ** 2).mean(1), variance, variance * snr**2 / (1 - snr**2)),
    }


def _point_mass(plan: Plan) -> dict:
    """What approximates neither ODE nor SDE still comes to data that is a single point: at t_min on average alpha x_0,
    up to rounding, and with no more noise than that of the row at hand. spread: noise there over that bound."""
    x = sample(_gaussian(0.0, 16), (16,), plan, 512, seed=SEED, chunk=512, progress=False).double()
    alpha = SCHEDULE.alpha(float(SCHEDULE.t_min))
    bound = alpha / plan.alpha[-1] * plan.sigma[-1]
    noise = x - alpha * _MEAN
    spread = float(noise.square().mean().sqrt() / bound)
    return {"mean_deviation": _deviation(noise.mean(1), 0.0, 1e-6), "spread": spread}


# Kernels --------------------------------------------------------------------------------------------------------------


def _rounding(plan: Plan) -> float:
    """Largest difference between the float32 kernels and float64 by plain torch, of the largest element, on Gaussian
    data: its flow does not magnify rounding, as that of a mixture does between the modes."""
    denoiser = _gaussian(_STD)

    def draw(dtype):
        return sample(denoiser, (64,), plan, 16, seed=SEED, chunk=16, dtype=dtype, progress=False)

    exact = draw(torch.float64)
    return float((draw(torch.float32) - exact).abs().max() / exact.abs().max())
