"""A plan joined with a denoiser: the table of numbers that `ops.step` reads."""

import functools
from collections.abc import Callable

import torch

from ... import ops
from ...common.checks import require_choice
from ..process.denoisers import Coefficients, Denoiser, Parameterization
from ..process.plans import Plan
from ..process.schedules import Schedule
from .brownian import brownian_terms

NOISES = ("white", "brownian")
KEPT = 1024  # rows of the plans whose tables are kept: a longer one takes megabytes


def step_table(
    plan: Plan,
    denoiser: Denoiser,
    dtype: torch.dtype = torch.float32,
    noise: str = "white",
    takes_denoised: bool = False,
) -> ops.StepTable:
    """The plan's rows joined with the denoiser's scalings, as `ops.step` reads them. The tables last used are kept, but
    for long plans.

    noise: "white", each draw on its own, or "brownian" (see brownian.py).  takes_denoised: for steps that take D in
    place of the network's output.
    Raises ValueError for a noise of another name, or a plan that has no such noise.
    """
    require_choice("noise", noise, NOISES)
    return _table(plan, denoiser.schedule, denoiser.parameterization, dtype, noise, takes_denoised)


def _remembered(function: Callable) -> Callable:
    """The function with its last answers kept, where its schedule and parameterization cannot change."""
    cached = functools.lru_cache(maxsize=32)(function)

    @functools.wraps(function)
    def call(plan, schedule, parameterization, *more):
        parts = (schedule, parameterization)
        # Of the class itself: a subclass of a frozen dataclass may have more state than its parent compares.
        own = (vars(type(part)).get("__dataclass_params__") for part in parts)
        fixed = len(plan) <= KEPT and all(parameters is not None and parameters.frozen for parameters in own)
        try:
            hash(parts)
        except TypeError:
            fixed = False
        return (cached if fixed else function)(plan, schedule, parameterization, *more)

    return call


@_remembered
def plan_scale(plan: Plan, schedule: Schedule, parameterization: Parameterization) -> Coefficients:
    """The denoiser's coefficients at the times of the plan; a ValueError if the plan is of another schedule."""
    t = torch.tensor(plan.t, device="cpu")
    for name, of_plan, own in (("alpha", plan.alpha, schedule.alpha(t)), ("sigma", plan.sigma, schedule.sigma(t))):
        if not torch.allclose(torch.tensor(of_plan, device="cpu"), own, rtol=1e-6, atol=1e-9):
            raise ValueError(
                f"plan {plan.name} must be of the denoiser's schedule, {schedule!r}; its {name} is another"
            )
    return parameterization.coefficients(schedule, t)


def plan_rows(plan: Plan, scale: Coefficients, noise: str = "white") -> dict:
    """The plan's rows joined with the denoiser's scalings, in float64, as `StepTable.pack` takes them."""
    rows = {name: torch.tensor(getattr(plan, name), device="cpu") for name in ("a", "b", "e", "p", "q", "m", "writes")}
    following = torch.cat([scale.c_in[1:], scale.c_in.new_ones(1)])  # y is the input of the next row
    terms = _white_terms(plan) if noise == "white" else _brownian_terms(plan)
    return rows | {"c_skip": scale.c_skip, "c_out": scale.c_out, "c_in": following, "terms": terms}


def _white_terms(plan: Plan) -> list[list[tuple[int, float]]]:
    rows = zip(plan.stream.tolist(), plan.s.tolist(), strict=True)
    return [[(stream, s) for stream, s in zip(*row, strict=True) if s] for row in rows]


def _brownian_terms(plan: Plan) -> list[list[tuple[int, float]]]:
    rows = zip(plan.s[:, 0].tolist(), brownian_terms(plan), strict=True)
    return [[(stream, s * weight) for stream, weight in row] for s, row in rows]


@_remembered
def _table(plan, schedule, parameterization, dtype, noise, takes_denoised) -> ops.StepTable:
    rows = plan_rows(plan, plan_scale(plan, schedule, parameterization), noise)
    if takes_denoised:
        rows |= {"c_skip": 0 * rows["c_skip"], "c_out": 1.0}
    return ops.StepTable.pack(**rows, dtype=dtype)
