"""A plan joined with a denoiser: the table of numbers that `ops.step` reads."""

import functools
from collections.abc import Callable

import torch

from ... import ops
from ..process.denoisers import Coefficients, Denoiser, Parameterization
from ..process.plans import SLOTS, Plan
from ..process.schedules import Schedule
from .brownian import brownian_terms

NOISES = ("white", "brownian")


def step_table(
    plan: Plan,
    denoiser: Denoiser,
    dtype: torch.dtype = torch.float32,
    noise: str = "white",
    takes_denoised: bool = False,
) -> ops.StepTable:
    """The plan's rows joined with the denoiser's scalings, as `ops.step` reads them. The tables last used are kept.

    noise: "white", each draw on its own, or "brownian" (see brownian.py).  takes_denoised: for steps that are
    given D in place of the network's output.
    Raises ValueError for a noise of another name, or a plan that has no such noise.
    """
    if noise not in NOISES:
        raise ValueError(f"noise must be one of {', '.join(NOISES)}; got {noise!r}")
    return _table(plan, denoiser.schedule, denoiser.parameterization, dtype, noise, takes_denoised)


def _remembered(function: Callable) -> Callable:
    """The function with its last answers kept, where its schedule and parameterization cannot change."""
    cached = functools.lru_cache(maxsize=32)(function)

    @functools.wraps(function)
    def call(plan, schedule, parameterization, *more):
        parts = (schedule, parameterization)
        # Of the class itself: a subclass of a frozen dataclass may have more state than its parent compares.
        own = (vars(type(part)).get("__dataclass_params__") for part in parts)
        fixed = all(parameters is not None and parameters.frozen for parameters in own)
        try:
            hash(parts)
        except TypeError:
            fixed = False
        return (cached if fixed else function)(plan, schedule, parameterization, *more)

    return call


@_remembered
def plan_scale(plan: Plan, schedule: Schedule, parameterization: Parameterization) -> Coefficients:
    """The denoiser's coefficients at the times of the plan; a ValueError if the plan is of another schedule."""
    t = torch.tensor(plan.t)
    for name, of_plan, own in (("alpha", plan.alpha, schedule.alpha(t)), ("sigma", plan.sigma, schedule.sigma(t))):
        if not torch.allclose(torch.tensor(of_plan), own, rtol=1e-6, atol=1e-9):
            raise ValueError(
                f"plan {plan.name} must be of the denoiser's schedule, {schedule!r}; its {name} is another"
            )
    return parameterization.coefficients(schedule, t)


@_remembered
def _table(plan, schedule, parameterization, dtype, noise, takes_denoised) -> ops.StepTable:
    scale = plan_scale(plan, schedule, parameterization)
    c_skip, c_out = scale.c_skip, scale.c_out
    if takes_denoised:
        c_skip, c_out = c_skip * 0, torch.ones_like(c_out)
    e, m, writes = torch.tensor(plan.e), torch.tensor(plan.m), torch.tensor(plan.writes)
    following = torch.cat([scale.c_in[1:], scale.c_in.new_ones(1)])  # y is the input of the next row
    step = torch.stack([c_skip, c_out, torch.tensor(plan.a), torch.tensor(plan.b)], 1)
    slots = torch.zeros(len(plan), SLOTS, 8, dtype=torch.float64)
    slots[:, :, 0], slots[:, :, 1], slots[:, :, 4:] = torch.tensor(plan.p), torch.tensor(plan.q), m
    table = torch.cat([step, e, following[:, None], torch.zeros(len(plan), 3), slots.flatten(1)], 1)

    if noise == "white":
        terms = [
            [(stream, s) for stream, s in zip(*row, strict=True) if s]
            for row in zip(plan.stream.tolist(), plan.s.tolist(), strict=True)
        ]
    else:
        terms = [
            [(stream, s * weight) for stream, weight in row]
            for s, row in zip(plan.s[:, 0].tolist(), brownian_terms(plan), strict=True)
        ]
    last = torch.tensor([len(row) for row in terms]).cumsum(0)
    bits = torch.tensor([1 << k for k in range(SLOTS)])
    reads = (e != 0) | (m != 0).any(1)
    codes = torch.stack(
        [torch.cat([last.new_zeros(1), last[:-1]]), last, (reads * bits).sum(1), (writes * bits).sum(1)]
    )
    streams = torch.tensor([stream for row in terms for stream, _ in row], dtype=torch.int64)
    streams = torch.where(streams >= 2**31, streams - 2**32, streams).int()
    weights = torch.tensor([weight for row in terms for _, weight in row], dtype=dtype)
    return ops.StepTable(table.to(dtype), codes.T.int().contiguous(), streams, weights)
