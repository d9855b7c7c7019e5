"""Solvers: functions from (schedule, times) to a Plan, the float64 table of coefficients that the sampling loop
follows.

    D    = the denoised estimate at (x, t_r)
    x'   = a_r x + b_r D + sum_k e_rk h_k + s_r0 z_0 + s_r1 z_1
    h_k' = p_rk x + q_rk D + sum_j m_rkj h_j      in the slots that row r writes

All x and h on the right are those before the row. A solver writes these equations down as they are in its paper, on
the symbols x, D, h[0..3] and z[0..1]. Times decrease; a step to t = 0 is x' = D for every solver
(`ddpm(variance="analytic")` adds its noise).
"""

import dataclasses
import inspect
import itertools
import math
from typing import NamedTuple

import numpy as np
import torch

from genfast import schedules
from genfast.schedules import as_float64, as_schedule

SLOTS = 4
DRAWS = 2
_PURPOSES = (1, 2)  # Purpose.STEP and Purpose.CHURN of genfast.ops: the noise streams of the two draws of a row
_FIELDS = {  # per row: shape and kind
    "t": ((), float),
    "alpha": ((), float),
    "sigma": ((), float),
    "a": ((), float),
    "b": ((), float),
    "e": ((SLOTS,), float),
    "s": ((DRAWS,), float),
    "p": ((SLOTS,), float),
    "q": ((SLOTS,), float),
    "m": ((SLOTS, SLOTS), float),
    "writes": ((SLOTS,), bool),
    "stream": ((DRAWS,), np.int64),
}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """What a solver does, one row per network evaluation (the equations of this module). Immutable, hashable,
    printable.

    R rows: t, alpha, sigma, a, b (R,); e, p, q (R, 4); s (R, 2); m (R, 4, 4); writes (R, 4) bool; stream (R, 2) int64,
    the noise stream `step << 8 | purpose` of each draw. `order` is the order of convergence that the solver claims,
    `steps` the number of its time steps, `prior_std` the standard deviation of the x that it starts from. Raises a
    ValueError that names a field of a wrong shape, a coefficient that is not finite, or a slot that is read before it
    is written.
    """

    name: str
    order: int
    steps: int
    prior_std: float
    t: np.ndarray
    alpha: np.ndarray
    sigma: np.ndarray
    a: np.ndarray
    b: np.ndarray
    e: np.ndarray
    s: np.ndarray
    p: np.ndarray
    q: np.ndarray
    m: np.ndarray
    writes: np.ndarray
    stream: np.ndarray

    def __post_init__(self):
        rows = len(np.atleast_1d(self.t))
        if rows == 0:
            raise ValueError("a plan must have at least one row")
        for field, (shape, kind) in _FIELDS.items():
            array = np.array(getattr(self, field), dtype=kind)
            if array.shape != (rows, *shape):
                raise ValueError(f"{field} must have shape {(rows, *shape)}; got {array.shape}")
            if not np.isfinite(array).all():
                row = np.argwhere(~np.isfinite(array))[0][0]
                raise ValueError(f"{field} of plan {self.name} must be finite; row {row} has {array[row]}")
            array.setflags(write=False)
            object.__setattr__(self, field, array)
        written = np.zeros(SLOTS, dtype=bool)
        for row in range(rows):
            unused = ~self.writes[row]
            if self.p[row, unused].any() or self.q[row, unused].any() or self.m[row, unused].any():
                raise ValueError(f"plan {self.name} has p, q or m in row {row} for a slot that the row does not write")
            unset = (self.e[row] != 0) | (self.m[row] != 0).any(0)
            unset &= ~written
            if unset.any():
                raise ValueError(f"plan {self.name} reads slot {unset.argmax()} in row {row} before it is written")
            written |= self.writes[row]

    def __len__(self):
        """The number of rows: network evaluations."""
        return len(self.t)

    @property
    def slots(self):
        """How many history slots the plan needs."""
        return int(np.flatnonzero(self.writes.any(0)).max(initial=-1)) + 1

    def _key(self):
        arrays = (getattr(self, field).tobytes() for field in _FIELDS)
        return (self.name, self.order, self.steps, self.prior_std, *arrays)

    def __eq__(self, other):
        return self._key() == other._key() if isinstance(other, Plan) else NotImplemented

    def __hash__(self):
        return hash(self._key())

    def __repr__(self):
        """The table: one line per row, the middle of long plans left out."""
        lines = [
            f"Plan {self.name}: {self.steps} steps, {len(self)} network evaluations, order {self.order}, "
            f"{self.slots} history slots, starts from N(0, {self.prior_std:g}^2)",
            f"{'row':>5} {'t':>9} {'log-SNR':>8}  update",
        ]
        for row in range(len(self)):
            if 12 <= row < len(self) - 4:
                lines += ["  ..."] if row == 12 else []
                continue
            update = _formula("x", self.a[row], self.b[row], self.e[row], self.s[row])
            for k in np.flatnonzero(self.writes[row]):
                update += "; " + _formula(f"h{k}", self.p[row, k], self.q[row, k], self.m[row, k], ())
            with np.errstate(divide="ignore"):
                log_snr = 2 * np.log(self.alpha[row] / self.sigma[row])
            lines.append(f"{row:5d} {self.t[row]:9.6f} {log_snr:8.3f}  {update}")
        return "\n".join(lines)


def _formula(target, x, D, history, noise):
    """One affine update as text, such as "x' = 0.98 x + 0.02 D + 0.1 z0"."""
    names = ["x", "D", *(f"h{k}" for k in range(len(history))), *(f"z{k}" for k in range(len(noise)))]
    factors = [x, D, *history, *noise]
    terms = [
        f"{'- ' if factor < 0 else '+ '}{'' if abs(factor) == 1 else f'{abs(factor):.6g} '}{name}"
        for factor, name in zip(factors, names, strict=True)
        if factor != 0
    ]
    return f"{target}' = {' '.join(terms).removeprefix('+ ') or '0'}"


# The symbols in which solvers write their rows: numpy vectors, so that equations on them are ordinary arithmetic.
_SYMBOLS = np.eye(2 + SLOTS + DRAWS)
x, D, h, z = _SYMBOLS[0], _SYMBOLS[1], _SYMBOLS[2 : 2 + SLOTS], _SYMBOLS[2 + SLOTS :]
_SYMBOLS.setflags(write=False)


class Point(NamedTuple):
    """A time and its schedule. log_ratio = log(alpha / sigma), half the log-SNR; -inf where alpha = 0."""

    t: float
    alpha: float
    sigma: float
    d_alpha: float
    d_sigma: float
    log_ratio: float

    @property
    def slope(self):
        """dx/dt of the probability-flow ODE: (sigma'/sigma) x + (alpha' - alpha sigma'/sigma) D. Song et al. 2021."""
        rate = self.d_sigma / self.sigma
        return rate * x + (self.d_alpha - self.alpha * rate) * D

    @property
    def eps(self):
        """The noise in x: (x - alpha D) / sigma."""
        return (x - self.alpha * D) / self.sigma


class Rows:
    """Collects the rows of a Plan. Iterating gives the (t, s) Points of every step but a last one to t = 0, which
    `plan` adds.

        rows = Rows(schedule, times)
        for t, s in rows:
            rows.add(t, x + (s.t - t.t) * t.slope)
        return rows.plan("euler", order=1)
    """

    def __init__(self, schedule, times):
        self.schedule = as_schedule(schedule)
        times = as_float64("times", np.array(times) if isinstance(times, (list, tuple)) else times).cpu()
        if times.ndim != 1 or len(times) < 2:
            raise ValueError(f"times must have shape (steps + 1,) with at least one step; got {tuple(times.shape)}")
        if not bool((times.diff() < 0).all()) or not 0 <= times[-1] <= times[0] <= 1:
            raise ValueError(f"times must decrease strictly within [0, 1]; got {times.tolist()}")
        self.steps = len(times) - 1
        self.to_zero = bool(times[-1] == 0)
        self.points = self._points(times[:-1] if self.to_zero else times)
        self.at, self.updates, self.kept = [], [], []

    def _points(self, times):
        """The Points of a tensor of positive times."""
        schedule = self.schedule
        columns = (
            schedule.alpha,
            schedule.sigma,
            schedule.d_alpha,
            schedule.d_sigma,
            lambda t: schedule.log_snr(t) / 2,
        )
        return [Point(*row) for row in torch.stack([times, *(column(times) for column in columns)], 1).tolist()]

    def __iter__(self):
        return itertools.pairwise(self.points)

    def point(self, t):
        """The Point of a time between those of the grid."""
        return self._points(torch.tensor([t], dtype=torch.float64))[0]

    def add(self, t, update, keep=()):
        """One network evaluation at Point t: x' = update, and h_k' = keep[k] for every entry that is not None."""
        self.at.append(t)
        self.updates.append(update)
        self.kept.append([*keep, *[None] * (SLOTS - len(keep))])

    def plan(self, name, order, last=D):
        """The Plan of the collected rows; if the times end at 0, `last` is its last row, evaluated at the time
        before."""
        if self.to_zero:
            self.add(self.points[-1], last)
        updates = np.array(self.updates)
        kept = np.array([[np.zeros(len(x)) if entry is None else entry for entry in row] for row in self.kept])
        return Plan(
            name=name,
            order=order,
            steps=self.steps,
            prior_std=self.schedule.prior_std,
            t=[point.t for point in self.at],
            alpha=[point.alpha for point in self.at],
            sigma=[point.sigma for point in self.at],
            a=updates[:, 0],
            b=updates[:, 1],
            e=updates[:, 2 : 2 + SLOTS],
            s=updates[:, 2 + SLOTS :],
            p=kept[:, :, 0],
            q=kept[:, :, 1],
            m=kept[:, :, 2 : 2 + SLOTS],
            writes=[[entry is not None for entry in row] for row in self.kept],
            stream=[[row << 8 | purpose for purpose in _PURPOSES] for row in range(len(self.at))],
        )


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
        w = eta * math.sqrt(_posterior(t, s)[1])
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


def plan(solver, schedule, steps, grid=None, **options):
    """The Plan of a solver by its name in SOLVERS, on `steps` time steps.

    grid: a name in GRIDS, or a function (schedule, steps) -> times. By default karras for VE and EDM schedules;
    otherwise ddpm (1000 discrete times) for ddpm and ddim, log_snr for the DPM-Solvers, and uniform for the rest.
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
    if grid is None:
        grid = "karras" if isinstance(schedule, schedules.VarianceExploding) else _GRID.get(solver, "uniform")
    if not callable(grid):
        if grid not in schedules.GRIDS:
            raise ValueError(f"grid must be a function or one of {', '.join(schedules.GRIDS)}; got {grid!r}")
        grid = schedules.GRIDS[grid]
    return SOLVERS[solver](schedule, grid(schedule, steps), **options)
