"""Plans: float64 tables of coefficients that the sampling loop follows, and the symbols that solvers write them in.

    D    = the denoised estimate at (x, t_r)
    x'   = a_r x + b_r D + sum_k e_rk h_k + s_r0 z_0 + s_r1 z_1
    h_k' = p_rk x + q_rk D + sum_j m_rkj h_j      in the slots that row r writes

All x and h on the right are those before the row. A row with snr_r > 0 is a Langevin corrector instead, the one step
that is not affine: x' = x + eps g + sqrt(2 eps) z_0 with g the score and eps = 2 (snr |z_0| / |g|)^2, per sample.
"""

import dataclasses
import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
import torch

from ...common.checks import (
    as_tensor,
    holds_integers,
    require_floating,
    require_integer,
    require_number,
    shown,
)
from ...common.precision import as_float64
from ...ops import SLOTS, Purpose, stream
from .schedules import as_schedule

PURPOSES = (Purpose.STEP, Purpose.CHURN)  # of the noise of the two draws of a row
DRAWS = len(PURPOSES)
NEGLIGIBLE = 0.1  # alpha / sigma below which x_t is taken for noise alone where sampling begins below t = 1
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
    "span": ((2,), float),
    "snr": ((), float),
}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """What a solver does, one row per network evaluation (the equations of this module). Immutable, hashable,
    printable.

    R rows: t, alpha, sigma, a, b (R,); e, p, q (R, 4); s (R, 2); m (R, 4, 4); writes (R, 4) bool; stream (R, 2) int64,
    the noise `ops.stream` of each draw; span (R, 2), the (alpha / sigma)^2 between which z_0 is drawn, for Brownian
    noise, (0, 0) if it belongs to no interval; snr (R,), above 0 in Langevin rows. `order` is the order of convergence
    that the solver claims, `steps` the number of its time steps, `prior_std` the standard deviation of the noise that
    it starts from, None if it begins where x_t is not noise alone (see `start`). Raises a ValueError that names a field
    of a wrong shape, a coefficient that is not finite, a slot that is read before it is written, or a Langevin row that
    does anything else.
    """

    name: str
    order: int
    steps: int
    prior_std: float | None
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
    span: np.ndarray
    snr: np.ndarray

    def __post_init__(self):
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a string; got {type(self.name).__name__}")
        for field, least in (("order", 0), ("steps", 1)):
            object.__setattr__(self, field, require_integer(field, getattr(self, field), least))
        if self.prior_std is not None:
            object.__setattr__(self, "prior_std", require_number("prior_std", self.prior_std, above=0))
        rows = len(np.atleast_1d(_array("t", self.t, float)))
        if rows == 0:
            raise ValueError("t must have at least one row; got none")
        for field, (shape, kind) in _FIELDS.items():
            array = _array(field, getattr(self, field), kind)
            if array.shape != (rows, *shape):
                raise ValueError(f"{field} must have shape {(rows, *shape)}; got {array.shape}")
            if not np.isfinite(array).all():
                row = np.argwhere(~np.isfinite(array))[0][0]
                raise ValueError(f"{field} of plan {self.name} must be finite; row {row} has {array[row]}")
            array.setflags(write=False)
            object.__setattr__(self, field, array)
        for row in np.flatnonzero(self.snr):
            still = self.a[row] == 1 and not (self.b[row] or self.e[row].any() or self.s[row].any())
            if self.snr[row] < 0 or not still or self.writes[row].any():
                raise ValueError(f"row {row} of plan {self.name} has snr: it must be positive, and x' = x beside it")
        used = (self.p != 0) | (self.q != 0) | (self.m != 0).any(2)
        for row in np.flatnonzero((used & ~self.writes).any(1))[:1]:
            raise ValueError(f"plan {self.name} has p, q or m in row {row} for a slot that the row does not write")
        written = np.zeros_like(self.writes)  # in the rows before
        written[1:] = np.logical_or.accumulate(self.writes)[:-1]
        unset = self._reads & ~written
        for row, slot in np.argwhere(unset)[:1]:
            raise ValueError(f"plan {self.name} reads slot {slot} in row {row} before it is written")

    def __reduce__(self):
        """A copy is made, and unpickled, by the constructor, so that its arrays are immutable too."""
        return type(self), tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    def __len__(self):
        """The number of rows: network evaluations."""
        return len(self.t)

    def start(self, z, source=None):
        """x at the time of the first row, (B, *): prior_std z, or alpha source + sigma z of data `source`, (B, *).

        z: (B, *) standard normal. Raises ValueError for a plan that begins where x_t is not noise alone.
        """
        z = require_floating("z", z)
        if source is not None:
            source = require_floating("source", source)
            if source.shape != z.shape:
                raise ValueError(f"source must have the shape of z, {tuple(z.shape)}; got {tuple(source.shape)}")
            return float(self.alpha[0]) * source + float(self.sigma[0]) * z
        self.require_prior()
        return self.prior_std * z

    def require_prior(self):
        """A ValueError if the plan begins where x_t is not noise alone."""
        if self.prior_std is None:
            raise ValueError(
                f"start must be given, or source and strength: plan {self.name} begins at t = {self.t[0]:g}, where x_t "
                f"is not noise alone (alpha = {self.alpha[0]:g}, sigma = {self.sigma[0]:g})"
            )

    def below(self, strength):
        """The plan from the first row with t <= strength on, and no longer standing for noise at its beginning.

        Raises ValueError for a plan with no such row, and for one whose steps read what earlier steps have written.
        """
        strength = require_number("strength", strength, above=0)
        if self.t[0] <= strength:
            return self
        begins = self._begins()
        if len(begins) < self.steps:
            raise ValueError(
                f"strength needs a plan whose steps do not read the steps before, which those of {self.name} do: "
                "give the solver by its name, or a plan that begins there"
            )
        first = int((self.t <= strength).argmax()) if (self.t <= strength).any() else len(self)
        rows = [row for row in begins if row >= first]
        if not rows:
            raise ValueError(
                f"strength must be at least {self.t.min():g}, the last time of {self.name}; got {strength}"
            )
        arrays = {field: getattr(self, field)[rows[0] :] for field in _FIELDS}
        return dataclasses.replace(self, steps=len({self.t[row] for row in rows}), prior_std=None, **arrays)

    @property
    def _reads(self):
        """The slots that each row reads: (R, SLOTS) bool."""
        return (self.e != 0) | (self.m != 0).any(1)

    def _begins(self):
        """The rows from which on no slot is read that has not been written from there on."""
        begins, wanted = [], np.zeros(SLOTS, dtype=bool)  # what this row and later ones read of earlier ones
        for row, reads, writes in zip(reversed(range(len(self))), self._reads[::-1], self.writes[::-1], strict=True):
            wanted = reads | (wanted & ~writes)
            if not wanted.any():
                begins.append(row)
        return begins[::-1]

    @property
    def slots(self):
        """How many history slots the plan needs."""
        return int(np.flatnonzero(self.writes.any(0)).max(initial=-1)) + 1

    @functools.cached_property
    def _key(self):
        arrays = (getattr(self, field).tobytes() for field in _FIELDS)
        return (self.name, self.order, self.steps, self.prior_std, *arrays)

    def __eq__(self, other):
        return self._key == other._key if isinstance(other, Plan) else NotImplemented

    def __hash__(self):
        return hash(self._key)

    def __repr__(self):
        """The table: one line per row, the middle of long plans left out."""
        lines = [
            f"Plan {self.name}: {self.steps} steps, {len(self)} network evaluations, order {self.order}, "
            f"{self.slots} history slots, "
            + ("starts from x_t" if self.prior_std is None else f"starts from N(0, {self.prior_std:g}^2)"),
            f"{'row':>5} {'t':>9} {'log-SNR':>8}  update",
        ]
        for row in range(len(self)):
            if 12 <= row < len(self) - 4:
                lines += ["  ..."] if row == 12 else []
                continue
            update = _formula("x", self.a[row], self.b[row], self.e[row], self.s[row])
            if self.snr[row]:
                update = f"Langevin, snr {self.snr[row]:g}"
            for k in np.flatnonzero(self.writes[row]):
                update += "; " + _formula(f"h{k}", self.p[row, k], self.q[row, k], self.m[row, k], ())
            with np.errstate(divide="ignore"):
                log_snr = 2 * np.log(self.alpha[row] / self.sigma[row])
            lines.append(f"{row:5d} {self.t[row]:9.6f} {log_snr:8.3f}  {update}")
        return "\n".join(lines)


def _array(field, value, kind):
    """A copy of the value of a field as an array of numbers of this kind."""
    tensor = as_tensor(field, value, torch.float64 if kind is float else None).detach().cpu()
    if kind is not float and not (tensor.dtype == torch.bool if kind is bool else holds_integers(tensor)):
        raise TypeError(f"{field} must hold {'True and False' if kind is bool else 'integers'}; got {tensor.dtype}")
    return np.array(tensor.numpy(), dtype=kind)


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


def as_times(times):
    """What a time grid answers as float64 on the CPU, (steps + 1,); a ValueError unless it decreases within [0, 1]."""
    times = as_float64("times", as_tensor("times", times, torch.float64)).cpu()
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"times must have shape (steps + 1,) with at least one step; got {tuple(times.shape)}")
    if not bool((times.diff() < 0).all()) or not 0 <= times[-1] <= times[0] <= 1:
        raise ValueError(f"times must decrease strictly within [0, 1]; got {shown(times.tolist())}")
    return times


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
        times = as_times(times)
        self.steps = len(times) - 1
        self.to_zero = bool(times[-1] == 0)
        self.points = self.points_at(times[:-1] if self.to_zero else times)
        self.at, self.updates, self.kept, self.spans, self.snrs = [], [], [], [], []
        self.step = None

    def points_at(self, times):
        """The Points of a tensor (n,) of positive times, those of the grid or others; all at once is much faster."""
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
        for step in itertools.pairwise(self.points):
            self.step = step
            yield step
        self.step = None

    def past(self, step, count):
        """The Points of the grid from number `step` back, as many of the `count` as there are."""
        return self.points[max(0, step + 1 - count) : step + 1][::-1]

    def point(self, t):
        """The Point of a time."""
        return self.points_at(torch.tensor([t], dtype=torch.float64, device="cpu"))[0]

    def add(self, t, update, keep=(), span=None):
        """One network evaluation at Point t: x' = update, and h_k' = keep[k] for every entry that is not None.

        span: the two Points between which z_0 is drawn, if not those of the step at hand.
        """
        self._add(t, update, keep, span or self.step, 0.0)

    def langevin(self, t, snr):
        """A Langevin corrector at Point t, one network evaluation."""
        self._add(t, x, (), None, snr)

    def _add(self, t, update, keep, span, snr):
        self.at.append(t)
        self.updates.append(update)
        self.kept.append([*keep, *[None] * (SLOTS - len(keep))])
        drawn = span is not None and update[2 + SLOTS] != 0
        self.spans.append([math.exp(2 * point.log_ratio) for point in span] if drawn else [0.0, 0.0])
        self.snrs.append(snr)

    def _prior_std(self):
        """Standard deviation of x_t at the first time, where all of it is noise; None where more than a tenth is data.

        At t = 1 it is the schedule's own, and what is left of the data there is neglected.
        """
        first = self.points[0]
        if first.t == 1:
            return self.schedule.prior_std
        if first.alpha > NEGLIGIBLE * first.sigma:
            return None
        return self.schedule.prior_std * first.sigma / self.schedule.sigma(1.0)

    def plan(self, name, order, last=D, at=None):
        """The Plan of the collected rows; if the times end at 0, `last` is its last row, evaluated at the time before
        or at another Point."""
        if self.to_zero:
            self.add(at or self.points[-1], last)
        updates = np.array(self.updates)
        kept = np.array([[np.zeros(len(x)) if entry is None else entry for entry in row] for row in self.kept])
        return Plan(
            name=name,
            order=order,
            steps=self.steps,
            prior_std=self._prior_std(),
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
            stream=[[stream(purpose, row) for purpose in PURPOSES] for row in range(len(self.at))],
            span=self.spans,
            snr=self.snrs,
        )
