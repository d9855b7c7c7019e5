"""The order of convergence of a solver, measured.

What is checked follows from the plan alone: one that draws no noise integrates the probability-flow ODE, one that does
the reverse SDE; Langevin rows make it a corrector; one that claims order 0 approximates neither.
"""

import functools
import math

import numpy as np
import torch
from torch import Tensor

from .. import ops
from ..diffusion.process.plans import SLOTS, Plan
from ..diffusion.sampling import sample
from .laws import gaussian_moments, mixture_moments, point_mass, rounding
from .problems import MEAN, MIXTURE, SCHEDULE, SEED, STD, marginal, plan_of
from .report import Record

TRAJECTORIES = 100

# Least-squares slopes are accepted in these intervals (trajectories near the borders between modes make those of first
# order noisy), and within 0.3 of any other order.
GATES = {1: (0.85, 1.25), 2: (1.8, 2.2), 4: (3.6, 4.3)}
EVALUATIONS = (80, 160, 320, 640)  # of the network, in the runs whose errors make a slope; twice that for an SDE

STANDARD_ERRORS = 5  # allowed between a sample's moment and its truth
ROUNDING = 1e-6  # of the largest element and times the root of the number of rows, in float32


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
        figures |= mixture_moments(plan_of(solver, 128))
    elif kind == "corrector":
        figures |= gaussian_moments(plan_of(solver, 256, to_zero=False))
    elif kind == "other":
        figures |= point_mass(plan_of(solver, 12, to_zero=False))
        if not figures["spread"] <= 1.1:
            failures.append(f"samples of a point mass have {figures['spread']:.2f} of the noise of the level before")
    for name in ("mean", "covariance"):
        away = figures.get(f"{name}_deviation", 0.0)
        if not away <= STANDARD_ERRORS:
            failures.append(f"the {name} is {away:.1f} standard errors from the truth; {STANDARD_ERRORS} allowed")
    plan = plan_of(solver, 12)
    allowed = ROUNDING * math.sqrt(len(plan))
    figures["rounding"] = rounding(plan)
    if not figures["rounding"] <= allowed:
        failures.append(f"float32 kernels are {figures['rounding']:.1e} from float64; {allowed:.1e} allowed")
    return Record(solver, kind, tuple(failures), order, measured, figures)


def slope(counts, errors) -> float:
    """Order of convergence: least squares of log error against log steps."""
    if not (np.isfinite(errors).all() and np.greater(errors, 0).all()):
        raise ValueError(f"no order can be measured from the errors {errors} at {counts} steps")
    return float(-np.polyfit(np.log(counts), np.log(errors), 1)[0])


@functools.cache
def exact_flow() -> Tensor:
    """Where the probability-flow ODE of the mixture takes the trajectories of the checks: (TRAJECTORIES, 2), at t_min.

    Not by a Plan: y = x / alpha follows dy/du = y - D with u = log(sigma / alpha), here by 1000 steps of the classical
    Runge-Kutta method, which are within 1e-9.
    """
    low, high = (-SCHEDULE.log_snr(t) / 2 for t in (SCHEDULE.t_min, 1.0))
    nodes = torch.linspace(high, low, 2001, dtype=torch.float64, device="cpu")
    times = SCHEDULE.time(-2 * nodes).tolist()
    times[0], times[-1] = 1.0, SCHEDULE.t_min
    alphas, step = SCHEDULE.alpha(torch.tensor(times, dtype=torch.float64, device="cpu")).tolist(), (low - high) / 1000

    def rate(y, node):
        return y - MIXTURE(alphas[node] * y, times[node])

    key = ops.make_key(SEED, torch.arange(TRAJECTORIES, device="cpu"))
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


def _weak_error(plan: Plan) -> float:
    """Error of the mean and variance of a plan's end on Gaussian data, which has D = offset + gain x.

    So the state (x, h_0..h_3, the noise that will be drawn again) follows a linear recursion, here from the exact law
    of x_1. Multistage solvers draw one noise stream in several rows.
    """
    last_draw = {int(plan.stream[r, k]): r for r in range(len(plan)) for k in np.flatnonzero(plan.s[r])}
    size, kept = 1 + SLOTS, []  # kept: the streams of the noise in the state
    mean, covariance = np.zeros(size), np.zeros((size, size))
    mean[0], covariance[0, 0] = marginal(1.0)
    for r in range(len(plan)):
        alpha, variance = plan.alpha[r], plan.alpha[r] ** 2 * STD**2 + plan.sigma[r] ** 2
        gain = alpha * STD**2 / variance
        offset = (1 - gain * alpha) * MEAN
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
    expected = marginal(float(SCHEDULE.t_min))
    return math.hypot(mean[0] - expected[0], covariance[0, 0] - expected[1])


def check_dpmpp_against_euler(name: str) -> Record:
    """DPM-Solver++(2M) in 20 steps ends closer to the exact flow than Euler in 40, on the same grid."""
    found, allowed = (
        (flow(plan_of(solver, steps, to_zero=False)) - exact_flow()).norm(dim=1).mean().item()
        for solver, steps in (("dpmpp_2m", 20), ("euler", 40))
    )
    failures = () if found < allowed else (f"the mean error is {found:.2e}, that of euler {allowed:.2e}",)
    return Record(name, "accuracy", failures, figures={"error": found, "allowed": allowed})
