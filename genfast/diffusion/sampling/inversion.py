"""Inversion: from data x_0 to the noise x_1 that a deterministic sampler would have made it of.

The probability-flow ODE run from t = 0 to 1. Its solvers are those of `solvers`, on the schedule read backwards: in
u = 1 - t / 2, noise becomes data and a grid that decreases in u is one that increases in t.
"""

import copy
import dataclasses

import numpy as np
import torch

from ...common.checks import require_samples, require_tensor
from ...common.units import standardized
from ..process.denoisers import require_denoiser
from ..process.plans import D, Plan, Rows, h, x
from ..process.schedules import Schedule, as_schedule
from ..solvers import plan, time_grid
from .sample import sample


@dataclasses.dataclass(frozen=True, repr=False)
class _Backwards(Schedule):
    """A schedule in the time u = 1 - t / 2, which runs from 1 at t = 0 to 1/2 at t = 1; u = 0, the end that solvers
    treat in their own way, is never met."""

    schedule: Schedule

    def alpha(self, t):
        return self.schedule.alpha(2 - 2 * t)

    def sigma(self, t):
        return self.schedule.sigma(2 - 2 * t)

    def d_alpha(self, t):
        return -2 * self.schedule.d_alpha(2 - 2 * t)

    def d_sigma(self, t):
        return -2 * self.schedule.d_sigma(2 - 2 * t)

    def log_snr(self, t):
        return self.schedule.log_snr(2 - 2 * t)

    def time(self, log_snr):
        return 1 - self.schedule.time(log_snr) / 2


def inversion_plan(solver, schedule, steps, grid=None, **options):
    """The Plan of `solvers.plan` with the same arguments, run from x_0 to x_1.

    Samplers end with x_0 = D(x, t_min), so it begins with the x that solves this, by three rows of the fixed point
    x' = alpha x_0 + sigma eps(x) = alpha x_0 + x - alpha D(x); from there the solver runs up the grid to t = 1. A grid
    that does not end at 0 has no such last step, and x_0 stands for the data at its last time.

    Raises ValueError and TypeError naming the argument, and ValueError for a solver that draws noise or
    cannot run backwards, and for a grid with no step between 0 and 1.
    """
    schedule = as_schedule(schedule)
    forward = plan(solver, schedule, steps, grid, **options)  # this checks the arguments, too
    if forward.s.any() or forward.snr.any():
        raise ValueError(f"solver must be deterministic to be inverted; {solver} draws noise")
    down = Rows(schedule, time_grid(solver, schedule, grid)(schedule, steps))
    if len(down.points) < 2:
        raise ValueError(f"steps must be at least 2, for one between 0 and 1; got {steps}")
    up = torch.tensor([1 - point.t / 2 for point in reversed(down.points)], dtype=torch.float64, device="cpu")
    backwards = _Backwards(schedule)
    try:
        with np.errstate(invalid="ignore"):  # a Plan refuses what is not finite
            flow = plan(solver, backwards, steps, lambda *_: up, **options)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"solver {solver} cannot run backwards in time: {error}") from error
    rows = [flow]
    if down.to_zero:
        start, t = Rows(backwards, up), down.points[-1]._replace(t=float(up[0]))
        start.add(t, (1 + t.alpha) * x - t.alpha * D, keep=(t.alpha * x,))
        for _ in range(2):
            start.add(t, h[0] + x - t.alpha * D)
        rows = [start.plan("start", order=1), flow]
    table = {
        field.name: np.concatenate([getattr(part, field.name) for part in rows])
        for field in dataclasses.fields(Plan)
        if isinstance(getattr(flow, field.name), np.ndarray)
    }
    table["t"] = 2 - 2 * table["t"]
    return dataclasses.replace(flow, name=f"{solver} inversion", **table)


def invert(
    denoiser,
    x_0,
    *,
    solver="rk4",
    steps=50,
    grid=None,
    condition=None,
    chunk=64,
    dtype=torch.float32,
    device="cpu",
    progress=True,
    **options,
):
    """x_1, (N, *) in `dtype`: the noise from which the same solver, steps and grid sample x_0 again, up to their error.

        x_1 = invert(denoiser, x_0, solver="heun", steps=40)
        sample(denoiser, shape, plan("heun", denoiser.schedule, 40), len(x_1), start=x_1)   # x_0

    x_0: (N, *) floating-point. solver: deterministic, by its name in SOLVERS; with "ddim" this is DDIM inversion, Song
    et al. 2020, arXiv:2010.02502, section 4.3; the ODE is that of Song et al. 2021, arXiv:2011.13456.  steps, grid,
    options: as in `solvers.plan`; the rest as in `sampling.sample`. x_1 depends on the chunk only by the rounding of
    the network.

    Raises as `inversion_plan` and `sampling.sample` do, and TypeError for an x_0 of another kind.
    """
    require_denoiser(denoiser)
    x_0 = require_samples("x_0", require_tensor("x_0", x_0))
    if not bool(x_0.isfinite().all()):
        raise ValueError("x_0 must be finite")
    upwards = inversion_plan(solver, denoiser.schedule, steps, grid, **options)
    within = copy.copy(denoiser)
    within.units = None  # noise has none
    return sample(
        within, x_0.shape[1:], upwards, len(x_0),
        start=standardized(denoiser.units, x_0), condition=condition, chunk=chunk, dtype=dtype, device=device,
        progress=progress,
    )  # fmt: skip
