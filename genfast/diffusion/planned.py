"""The plan of a request: a solver by its name, on the times that the request asks for."""

from collections.abc import Callable

from torch import Tensor

from ..common.checks import require_choice
from .process.plans import Plan, as_times
from .process.schedules import Schedule
from .sampling.brownian import aligned
from .sampling.step_table import NOISES
from .solvers import plan, time_grid


def planned(
    schedule: Schedule,
    solver: str | Plan,
    steps: int,
    grid: str | Callable | None,
    noise: str,
    options: dict,
    strength: float | None = None,
) -> Plan:
    """The Plan itself, or that of the solver of this name, as `Diffusion.sample` takes these arguments."""
    require_choice("noise", noise, NOISES)
    if isinstance(solver, Plan):
        if options or grid is not None:
            names = ", ".join([*options, *["grid"] * (grid is not None)])
            raise TypeError(f"{names} cannot go with a Plan, which has all its settings in it")
        return solver
    grid = time_grid(solver, schedule, grid)
    if noise == "brownian":
        plain, grid = grid, lambda schedule, steps: aligned(schedule, plain(schedule, steps))
    if strength is not None:
        grid = _below(strength, grid)
    return plan(solver, schedule, steps, grid, **options)


def _below(strength: float, grid: Callable) -> Callable:
    """The time grid from its first time <= strength on: what a solver with a history can begin with."""

    def below(schedule: Schedule, steps: int) -> Tensor:
        times = as_times(grid(schedule, steps))
        late = times[times <= strength]
        if len(late) < 2:
            raise ValueError(f"strength must be at least {times[-2]:g}, the last time of {steps} steps; got {strength}")
        return late

    return below
