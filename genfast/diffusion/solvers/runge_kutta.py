"""Runge-Kutta methods on the probability-flow ODE: in t, in the noise level sigma / alpha (EDM), on the straight path
(flow matching)."""

import math

import torch

from ...common.checks import require_number
from ..process.plans import D, Rows, h, x, z
from ._common import at_log_ratios, level, step_to


def euler(schedule, times):
    """Euler's method in t on the probability-flow ODE. Song et al. 2021, arXiv:2011.13456."""
    rows = Rows(schedule, times)
    for t, s in rows:
        rows.add(t, x + (s.t - t.t) * t.slope)
    return rows.plan("euler", order=1)


def heun(schedule, times):
    """Heun's method (the trapezoidal rule) in t on the probability-flow ODE. Two evaluations a step.

    On the EDM schedule and the karras grid this is algorithm 1 of Karras et al. 2022, arXiv:2206.00364.
    """
    rows = Rows(schedule, times)
    for t, s in rows:
        rows.add(t, x + (s.t - t.t) * t.slope, keep=(t.slope,))
        rows.add(s, x + (s.t - t.t) / 2 * (s.slope - h[0]))  # Euler's step is in x: half of its slope is exchanged
    return rows.plan("heun", order=2)


def rk4(schedule, times):
    """The classical fourth-order Runge-Kutta method in t on the probability-flow ODE. Four evaluations a step."""
    rows = Rows(schedule, times)
    at = torch.tensor([point.t for point in rows.points], dtype=torch.float64, device="cpu")
    middles = rows.points_at((at[:-1] + at[1:]) / 2)
    for (t, s), middle in zip(rows, middles, strict=True):
        step = s.t - t.t
        rows.add(t, x + step / 2 * t.slope, keep=(x, t.slope))
        rows.add(middle, h[0] + step / 2 * middle.slope, keep=(None, h[1] + 2 * middle.slope))
        rows.add(middle, h[0] + step * middle.slope, keep=(None, h[1] + 2 * middle.slope))
        rows.add(s, h[0] + step / 6 * (h[1] + s.slope))
    return rows.plan("rk4", order=4)


def edm(schedule, times, *, s_churn=0.0, s_tmin=0.0, s_tmax=math.inf, s_noise=1.0):
    """Heun's method in the noise level n = sigma / alpha on x / alpha, after noise ("churn") that raises the level to
    n (1 + gamma). Two evaluations a step. Karras et al. 2022, arXiv:2206.00364, algorithm 2.

    gamma = min(s_churn / steps, sqrt(2) - 1) where s_tmin <= n <= s_tmax, 0 elsewhere; s_noise scales the noise. No
    level is raised above that of t = 1, so that the first step has no churn. With s_churn = 0 on the EDM schedule this
    is `heun`. Where alpha(t) = 0 (Flow at t = 1) the step is that of `ddim`, one evaluation.
    """
    s_churn = require_number("s_churn", s_churn, least=0)
    s_tmin = require_number("s_tmin", s_tmin, least=0)
    if not (isinstance(s_tmax, float) and s_tmax == math.inf):
        s_tmax = require_number("s_tmax", s_tmax, least=0)
    s_noise = require_number("s_noise", s_noise, least=0)
    rows = Rows(schedule, times)
    gamma = min(s_churn / rows.steps, math.sqrt(2) - 1)

    highest = rows.schedule.log_snr(1.0) / 2
    raised = at_log_ratios(rows, [max(point.log_ratio - math.log1p(gamma), highest) for point in rows.points])
    starts = len(rows.points) if rows.to_zero else len(rows.points) - 1  # of steps: an end above 0 is not raised
    churned = [
        up if 0 < index < starts and gamma > 0 and s_tmin <= level(s) <= s_tmax else s
        for index, (s, up) in enumerate(zip(rows.points, raised, strict=True))
    ]
    for step, (_, s) in enumerate(rows):
        t, following = churned[step : step + 2]
        # The state at s as that of the level to which it is raised for the next step: a factor and noise.
        factor = following.alpha / s.alpha
        added = s_noise * following.sigma * math.sqrt(max(0.0, -math.expm1(2 * (following.log_ratio - s.log_ratio))))
        if t.alpha == 0:
            rows.add(t, factor * step_to(s, t.eps) + added * z[1])
            continue
        half = (s.sigma - s.alpha * level(t)) / 2
        rows.add(t, step_to(s, t.eps), keep=(t.eps,))
        rows.add(s, factor * (x + half * (s.eps - h[0])) + added * z[1])
    return rows.plan("edm", order=2, at=churned[-1])


def flow_euler(schedule, times):
    """Euler's method along the straight path: on x / (alpha + sigma) in u = sigma / (alpha + sigma), where every
    schedule is x = (1 - u) x_0 + u eps, with velocity eps - D.

    On the Flow schedule this is the sampler of rectified flow, Liu et al. 2022, arXiv:2209.03003; on every schedule its
    step is that of deterministic `ddim`.
    """
    rows = Rows(schedule, times)
    for t, s in rows:
        rows.add(t, step_to(s, t.eps))
    return rows.plan("flow_euler", order=1)


def flow_heun(schedule, times):
    """Heun's method along the straight path of `flow_euler`. Two evaluations a step. On the Flow schedule it is
    `heun`."""
    rows = Rows(schedule, times)
    for t, s in rows:
        whole_t, whole_s = t.alpha + t.sigma, s.alpha + s.sigma
        half = whole_s * (s.sigma / whole_s - t.sigma / whole_t) / 2
        rows.add(t, step_to(s, t.eps), keep=(whole_s / whole_t * x + half * (t.eps - D),))
        rows.add(s, h[0] + half * (s.eps - D))
    return rows.plan("flow_heun", order=2)
