"""Solvers: functions from (schedule, times) to a Plan, the table of coefficients that the sampling loop follows.

A solver writes its equations down as they are in its paper, on the symbols x, D, h[0..3] and z[0..1] of `plans`. Times
decrease; a step to t = 0 is x' = D for every solver but `lms` and `ipndm`, unless they are told to (`ddpm(variance=
"analytic")` adds its noise). One module a family:

    ancestral    ddpm, ddim, euler_ancestral                    runge_kutta  in t, in sigma / alpha (edm), flow
    singlestep   DPM-Solvers and their ancestral, SDE forms     multistep    lms, ipndm, DPM-Solvers, deis, unipc
    sde          the reverse SDE, correctors, Langevin          consistency  consistency, lcm
    repaint      ddpm to and fro, for inpainting
"""

import inspect

import torch

from ...common.checks import require_choice, require_count, shown
from ..process.grids import GRIDS, MAX_STEPS
from ..process.schedules import VarianceExploding, as_schedule
from .ancestral import ddim, ddpm, euler_ancestral
from .consistency import consistency, lcm
from .multistep import (
    deis,
    dpm_solver_2m,
    dpm_solver_2m_sde,
    dpm_solver_3m,
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_3m,
    dpmpp_3m_sde,
    ipndm,
    lms,
    unipc,
)
from .repaint import repaint
from .runge_kutta import edm, euler, flow_euler, flow_heun, heun, rk4
from .sde import annealed_langevin, euler_maruyama, flow_sde, predictor_corrector, reverse_diffusion
from .singlestep import (
    dpm2,
    dpm2_ancestral,
    dpm_solver_1s,
    dpm_solver_2s,
    dpm_solver_3s,
    dpmpp_1s,
    dpmpp_2s,
    dpmpp_2s_ancestral,
    dpmpp_3s,
    dpmpp_sde,
)

_FUNCTIONS = [
    *(ddpm, ddim, euler, heun, rk4, edm, euler_ancestral, dpm2, dpm2_ancestral, lms, ipndm),
    *(dpm_solver_1s, dpm_solver_2s, dpm_solver_3s, dpm_solver_2m, dpm_solver_3m, dpm_solver_2m_sde),
    *(dpmpp_1s, dpmpp_2s, dpmpp_3s, dpmpp_2m, dpmpp_3m, dpmpp_2s_ancestral, dpmpp_sde, dpmpp_2m_sde, dpmpp_3m_sde),
    *(deis, unipc, euler_maruyama, reverse_diffusion, predictor_corrector, annealed_langevin),
    *(flow_euler, flow_heun, flow_sde, consistency, lcm, repaint),
]
SOLVERS = {function.__name__: function for function in _FUNCTIONS}


def _consistency_times(schedule, steps):
    """The karras times but t_min: the answer at the time before it is final already."""
    times = GRIDS["karras"](schedule, steps + 1)
    return torch.cat([times[:-2], times[-1:]])


# The grid of each solver's own paper or usual code; on VE and EDM schedules all but the exponential ones take karras.
_UNIFORM = ("euler", "heun", "rk4", "euler_maruyama", "reverse_diffusion", "predictor_corrector", "flow_euler")
_GRID = dict.fromkeys(SOLVERS, "log_snr") | dict.fromkeys([*_UNIFORM, "flow_heun", "flow_sde"], "uniform")
_GRID |= dict.fromkeys(["ddpm", "ddim", "consistency", "lcm", "repaint"], "ddpm")
_GRID |= dict.fromkeys(["edm", "euler_ancestral", "dpm2", "dpm2_ancestral", "lms"], "karras")
_EXPONENTIAL = {"deis", "unipc", *(name for name in SOLVERS if name.startswith(("dpm_solver", "dpmpp")))}


def time_grid(solver, schedule, grid=None):
    """The time grid, a function (schedule, steps) -> times, of that name in GRIDS; None is the default of the solver.

    By default log_snr for the exponential solvers (the DPM-Solver family, deis, unipc), whatever the schedule; karras
    for all others on VE and EDM schedules; otherwise ddpm (1000 discrete times) for ddpm, ddim and the consistency
    solvers, karras for those of k-diffusion and EDM, uniform for those that run in t, and log_snr for the rest.
    """
    solver = require_choice("solver", solver, SOLVERS)
    if grid is None:
        exploding = isinstance(as_schedule(schedule), VarianceExploding)
        if exploding and solver in ("consistency", "lcm"):
            return _consistency_times
        grid = "karras" if exploding and solver not in _EXPONENTIAL else _GRID[solver]
    if not callable(grid):
        if not isinstance(grid, str) or grid not in GRIDS:
            raise ValueError(f"grid must be a function or one of {', '.join(GRIDS)}; got {shown(grid)}")
        grid = GRIDS[grid]
    return grid


def plan(solver, schedule, steps, grid=None, final_sigma="zero", **options):
    """The Plan of a solver by its name in SOLVERS, on `steps` time steps.

    grid: a name in GRIDS, or a function (schedule, steps) -> times; see `time_grid` for the defaults.
    final_sigma: "zero" ends with a step to t = 0; "sigma_min" ends at the time before, the last of steps + 1 of the
    grid, where the sample still has its noise.
    options: those of the solver. Unknown names raise a ValueError that lists the known ones, unknown options a
    TypeError.
    """
    solver = require_choice("solver", solver, SOLVERS)
    known = [name for name in inspect.signature(SOLVERS[solver]).parameters if name not in ("schedule", "times")]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise TypeError(f"{solver} has no option {', '.join(unknown)}; it takes {', '.join(known) or 'none'}")
    steps = require_count("steps", steps, 1, MAX_STEPS)
    final_sigma = require_choice("final_sigma", final_sigma, ("zero", "sigma_min"))
    schedule = as_schedule(schedule)
    times = time_grid(solver, schedule, grid)
    times = times(schedule, steps) if final_sigma == "zero" else times(schedule, steps + 1)[:-1]
    return SOLVERS[solver](schedule, times, **options)
