"""Solvers: functions from (schedule, times) to a Plan, the table of coefficients that the sampling loop follows.

A solver writes its equations down as they are in its paper, on the symbols x, D, h[0..3] and z[0..1] of `plans`. Times
decrease; a step to t = 0 is x' = D for every solver (`ddpm(variance="analytic")` adds its noise).
"""

import inspect
import math

from genfast.grids import GRIDS
from genfast.plans import D, Rows, h, x, z
from genfast.schedules import VarianceExploding, as_schedule


def _posterior(t, s):
    """q(x_s | x_t, x_0 = D): its mean and its variance; and that of q(x_t | x_s), which is DDPM's beta."""
    beta = -(t.sigma**2) * math.expm1(2 * (t.log_ratio - s.log_ratio))  # sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2
    mean = t.alpha / s.alpha * s.sigma**2 / t.sigma**2 * x + s.alpha * beta / t.sigma**2 * D
    return mean, beta * s.sigma**2 / t.sigma**2, beta


def ddpm(schedule, times, *, variance="small", data_std=None):
    """Ancestral sampling, x_s ~ q(x_s | x_t, x_0 = D). Ho et al. 2020, arXiv:2006.11239.

    variance: "small" (beta-tilde, exact for a point mass), "large" (beta, exact for unit Gaussian data on a VP
    schedule), or "analytic", exact for Gaussian data of standard deviation `data_std` (the last step to 0 included):
    V_s - (alpha_t / alpha_s V_s)^2 / V_t with V = alpha^2 data_std^2 + sigma^2. Bao et al. 2022, arXiv:2201.06503.
    """
    if variance not in ("small", "large", "analytic"):
        raise ValueError(f"variance must be small, large or analytic; got {variance!r}")
    if (variance == "analytic") != (data_std is not None):
        raise ValueError(f"data_std goes with variance='analytic' and nothing else; got {data_std!r} with {variance!r}")
    if data_std is not None and not 0 <= data_std < math.inf:
        raise ValueError(f"data_std must be finite and not negative; got {data_std!r}")
    rows = Rows(schedule, times)
    for t, s in rows:
        mean, small, large = _posterior(t, s)
        if variance == "analytic":
            # The posterior's own variance, and that of x_0 given x_t, through the factor of D in the mean.
            added = small + (s.alpha * large / t.sigma**2) ** 2 * _data_variance(t, data_std)
        else:
            added = small if variance == "small" else large
        rows.add(t, mean + math.sqrt(added) * z[0])
    last = D + math.sqrt(_data_variance(rows.points[-1], data_std)) * z[0] if variance == "analytic" else D
    return rows.plan("ddpm", order=1, last=last)


def _data_variance(t, data_std):
    """Var(x_0 | x_t) of Gaussian data."""
    return data_std**2 * t.sigma**2 / (t.alpha**2 * data_std**2 + t.sigma**2)


def ddim(schedule, times, *, eta=0.0):
    """x_s = alpha_s D + sqrt(sigma_s^2 - w^2) eps + w z, with w = eta times the standard deviation of DDPM's small
    variance.

    eta = 0 is deterministic, eta = 1 is `ddpm`. Song et al. 2020, arXiv:2010.02502, equation 12.
    """
    _require_range("eta", eta, 0, 1)
    rows = Rows(schedule, times)
    for t, s in rows:
        w = eta * math.sqrt(_posterior(t, s)[1]) if eta else 0.0  # the variance is negative backwards in time
        kept = math.sqrt(max(0.0, s.sigma**2 - w**2))  # w = sigma_s up to rounding where eta = 1 and alpha_t = 0
        rows.add(t, s.alpha * D + kept * t.eps + w * z[0])
    return rows.plan("ddim", order=1)


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
        rows.add(t, x + (s.t - t.t) * t.slope, keep=(x, t.slope))
        rows.add(s, h[0] + (s.t - t.t) / 2 * (h[1] + s.slope))
    return rows.plan("heun", order=2)


def rk4(schedule, times):
    """The classical fourth-order Runge-Kutta method in t on the probability-flow ODE. Four evaluations a step."""
    rows = Rows(schedule, times)
    for t, s in rows:
        step, middle = s.t - t.t, rows.point((t.t + s.t) / 2)
        rows.add(t, x + step / 2 * t.slope, keep=(x, t.slope))
        rows.add(middle, h[0] + step / 2 * middle.slope, keep=(None, h[1] + 2 * middle.slope))
        rows.add(middle, h[0] + step * middle.slope, keep=(None, h[1] + 2 * middle.slope))
        rows.add(s, h[0] + step / 6 * (h[1] + s.slope))
    return rows.plan("rk4", order=4)


def euler_maruyama(schedule, times):
    """Euler-Maruyama in t on the reverse SDE dx = (f x - g^2 score) dt + g dw. Song et al. 2021, arXiv:2011.13456.

    Where alpha(t) = 0 (Flow at t = 1) f and g are infinite; that step is the exact transition of `ddpm`.
    """
    rows = Rows(schedule, times)
    for t, s in rows:
        if t.alpha == 0:
            mean, variance, _ = _posterior(t, s)
            rows.add(t, mean + math.sqrt(variance) * z[0])
            continue
        f = t.d_alpha / t.alpha
        g2 = 2 * t.sigma * (t.d_sigma - f * t.sigma)
        rows.add(t, x + (s.t - t.t) * (f * x + g2 * t.eps / t.sigma) + math.sqrt((t.t - s.t) * g2) * z[0])
    return rows.plan("euler_maruyama", order=1)


def dpm_solver_2s(schedule, times):
    """DPM-Solver-2, singlestep, through the middle of the log-SNR. Lu et al. 2022, arXiv:2206.00927, algorithm 1. Two
    evaluations a step; one, as `ddim`, from an infinite log-SNR."""
    rows = Rows(schedule, times)
    for t, s in rows:
        if t.alpha == 0:
            rows.add(t, s.alpha * D + s.sigma * t.eps)
            continue
        middle = rows.point(rows.schedule.time(t.log_ratio + s.log_ratio))
        rows.add(t, middle.alpha * D + middle.sigma * t.eps, keep=(x,))
        growth = math.expm1(s.log_ratio - t.log_ratio)
        rows.add(middle, s.alpha / t.alpha * h[0] - s.sigma * growth * middle.eps)
    return rows.plan("dpm_solver_2s", order=2)


def _dpmpp_2m(rows, eta):
    """The rows of DPM-Solver++(2M) and, with eta > 0, of its SDE form."""
    last_step = None
    for t, s in rows:
        step = s.log_ratio - t.log_ratio  # infinite if alpha_t = 0; every factor below has its limit there
        decay = math.exp(-eta * step) if eta else 1.0
        gain = -s.alpha * math.expm1(-(1 + eta) * step)
        # Extrapolation of D to the middle of the step, from the last two; the first step has only one.
        ahead = 0.0 if last_step is None else step / (2 * last_step)
        estimate = D + ahead * (D - h[0]) if ahead else D
        noise = s.sigma * math.sqrt(-math.expm1(-2 * eta * step)) if eta else 0.0
        rows.add(t, s.sigma / t.sigma * decay * x + gain * estimate + noise * z[0], keep=(D,))
        last_step = step


def dpmpp_2m(schedule, times):
    """DPM-Solver++(2M), second-order multistep in the log-SNR. Lu et al. 2022, arXiv:2211.01095, algorithm 2.

    First order in the first step and in the last one to t = 0.
    """
    rows = Rows(schedule, times)
    _dpmpp_2m(rows, eta=0.0)
    return rows.plan("dpmpp_2m", order=2)


def dpmpp_2m_sde(schedule, times, *, eta=1.0):
    """The SDE form of DPM-Solver++(2M), midpoint rule. eta = 0 is `dpmpp_2m`, eta = 1 the reverse SDE.

    Lu et al. 2022, arXiv:2211.01095, appendix. The order is that of the mean and variance on Gaussian data.
    """
    _require_range("eta", eta, 0, math.inf)
    rows = Rows(schedule, times)
    _dpmpp_2m(rows, eta)
    return rows.plan("dpmpp_2m_sde", order=2)


def _require_range(name, value, low, high):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number; got {value!r}")
    if not low <= value <= high or value == math.inf:
        raise ValueError(f"{name} must be finite and in [{low}, {high}]; got {value}")


SOLVERS = {
    "ddpm": ddpm,
    "ddim": ddim,
    "euler": euler,
    "heun": heun,
    "rk4": rk4,
    "euler_maruyama": euler_maruyama,
    "dpm_solver_2s": dpm_solver_2s,
    "dpmpp_2m": dpmpp_2m,
    "dpmpp_2m_sde": dpmpp_2m_sde,
}

# The grid of each solver's own paper or usual code; VE and EDM schedules take karras instead, whatever the solver.
_GRID = {"ddpm": "ddpm", "ddim": "ddpm", "dpm_solver_2s": "log_snr", "dpmpp_2m": "log_snr", "dpmpp_2m_sde": "log_snr"}


def time_grid(solver, schedule, grid=None):
    """The time grid, a function (schedule, steps) -> times, of that name in GRIDS; None is the default of the solver.

    By default karras for VE and EDM schedules; otherwise ddpm (1000 discrete times) for ddpm and ddim, log_snr for the
    DPM-Solvers, and uniform for the rest.
    """
    if grid is None:
        grid = "karras" if isinstance(as_schedule(schedule), VarianceExploding) else _GRID.get(solver, "uniform")
    if not callable(grid):
        if grid not in GRIDS:
            raise ValueError(f"grid must be a function or one of {', '.join(GRIDS)}; got {grid!r}")
        grid = GRIDS[grid]
    return grid


def plan(solver, schedule, steps, grid=None, **options):
    """The Plan of a solver by its name in SOLVERS, on `steps` time steps.

    grid: a name in GRIDS, or a function (schedule, steps) -> times; see `time_grid` for the defaults.
    options: those of the solver. Unknown names raise a ValueError that lists the known ones, unknown options a
    TypeError.
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}; got {solver!r}")
    known = [name for name in inspect.signature(SOLVERS[solver]).parameters if name not in ("schedule", "times")]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise TypeError(f"{solver} has no option {', '.join(unknown)}; it takes {', '.join(known) or 'none'}")
    schedule = as_schedule(schedule)
    return SOLVERS[solver](schedule, time_grid(solver, schedule, grid)(schedule, steps), **options)
