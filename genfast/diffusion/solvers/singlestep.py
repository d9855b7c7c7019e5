"""Singlestep exponential integrators in log(alpha / sigma), the DPM-Solver family: one to three evaluations a step, and
their ancestral and SDE forms."""

import itertools
import math

from ...common.checks import require_bool, require_choice, require_integer, require_number
from ..process.plans import D, Rows, h, x, z
from ._common import ancestral, at_log_ratios, exponential_step, step_to


def dpm_solver_1s(schedule, times):
    """DPM-Solver-1, which is deterministic `ddim`. Lu et al. 2022, arXiv:2206.00927, equation 3.7."""
    return _singlestep(schedule, times, "dpm_solver_1s", 1, data=False)


def dpm_solver_2s(schedule, times, *, solver_type="midpoint", stages="inner", lower_order_final=False):
    """DPM-Solver-2, singlestep, through the middle of the log-SNR. Lu et al. 2022, arXiv:2206.00927, algorithm 1. Two
    evaluations a step; one, as `ddim`, from an infinite log-SNR.

    solver_type: how the two values of eps make a step, "midpoint" as in the paper, or "heun", the exact integral of
    the line through them. stages: "inner" puts them between the times; with "grid" they are the times, every second
    one ends a step (the steps of the Plan are then those of the times), and a step that is left over has order 1; a
    tuple such as (1, 2, 2) is "grid" with steps of these orders, 5 of the times; one to t = 0 has order 1.
    lower_order_final: with "grid", two steps of order 1 in place of a last one of order 2, where that ends above t = 0.
    """
    return _singlestep(schedule, times, "dpm_solver_2s", 2, False, solver_type, stages, lower_order_final)


def dpm_solver_3s(schedule, times, *, solver_type="midpoint", stages="inner", lower_order_final=False):
    """DPM-Solver-3, singlestep, at 1/3 and 2/3 of the log-SNR. Lu et al. 2022, arXiv:2206.00927, algorithm 2. Three
    evaluations a step.

    solver_type: "midpoint", the paper's, or "heun", the exact integral of the parabola through the three values of
    eps. stages, lower_order_final: as in `dpm_solver_2s`; steps that are left over have order 1 or 2.
    """
    return _singlestep(schedule, times, "dpm_solver_3s", 3, False, solver_type, stages, lower_order_final)


def dpmpp_1s(schedule, times):
    """DPM-Solver++ of order 1, which is deterministic `ddim`. Lu et al. 2022, arXiv:2211.01095."""
    return _singlestep(schedule, times, "dpmpp_1s", 1, data=True)


def dpmpp_2s(schedule, times, *, solver_type="midpoint", stages="inner", lower_order_final=False):
    """DPM-Solver++(2S): `dpm_solver_2s` on D in place of eps. Lu et al. 2022, arXiv:2211.01095, algorithm 1."""
    return _singlestep(schedule, times, "dpmpp_2s", 2, True, solver_type, stages, lower_order_final)


def dpmpp_3s(schedule, times, *, solver_type="midpoint", stages="inner", lower_order_final=False):
    """DPM-Solver++(3S): `dpm_solver_3s` on D in place of eps. Lu et al. 2022, arXiv:2211.01095."""
    return _singlestep(schedule, times, "dpmpp_3s", 3, True, solver_type, stages, lower_order_final)


def _singlestep(schedule, times, name, order, data, solver_type="midpoint", stages="inner", lower_order_final=False):
    solver_type = require_choice("solver_type", solver_type, ("midpoint", "heun"))
    if not isinstance(stages, tuple):
        stages = require_choice("stages", stages, ("inner", "grid"))
    lower_order_final = require_bool("lower_order_final", lower_order_final)
    rows = Rows(schedule, times)
    for points in _steps(rows, order, stages, lower_order_final):
        t, *inner, s = points
        values = [D if data else point.eps for point in (t, *inner)]
        # The stages of the paper integrate the line through two values exactly, whatever the step does.
        stage_type = "heun" if stages == "inner" else solver_type
        if not inner:
            rows.add(t, step_to(s, t.eps))
        elif len(inner) == 1:
            _two_stages(rows, t, *inner, s, data, solver_type)
        else:
            first, second = inner
            options = {"base": h[0], "data": data}
            rows.add(t, step_to(first, t.eps), keep=(x, values[0]))
            known = [h[1], values[1]], [t, first]
            rows.add(
                first,
                exponential_step(t, second, *known, solver_type=stage_type, **options),
                keep=(None, None, values[1]),
            )
            known = (
                ([h[1], values[2]], [t, second])
                if solver_type == "midpoint"
                else ([h[1], h[2], values[2]], [t, *inner])
            )
            rows.add(second, exponential_step(t, s, *known, **options))
    return rows.plan(name, order)


def _two_stages(rows, t, middle, s, data, solver_type, noise=0.0):
    """A step of second order from t to s through middle."""
    rows.add(t, step_to(middle, t.eps), keep=(x, D if data else t.eps))
    values, nodes = [h[1], D if data else middle.eps], [t, middle]
    rows.add(middle, exponential_step(t, s, values, nodes, base=h[0], data=data, solver_type=solver_type) + noise)


def _steps(rows, order, stages, lower_order_final):
    """The Points of every step: t, those of its stages, s."""
    if stages == "inner":
        shares = [share / order for share in range(1, order)]
        inner = iter(_points_between(rows, itertools.pairwise(rows.points), *shares))
        for t, s in rows:
            yield (t, s) if t.alpha == 0 else (t, *itertools.islice(inner, order - 1), s)
        return
    if isinstance(stages, tuple):
        sizes = [require_integer("stages", size, 1, order) for size in stages]
        if sum(sizes) != rows.steps or (rows.to_zero and sizes[-1] != 1):
            last = ", the last of order 1" if rows.to_zero else ""
            raise ValueError(f"stages must be orders that make {rows.steps} steps{last}; got {stages}")
        sizes = sizes[: len(sizes) - rows.to_zero]  # `plan` adds a step to t = 0
    else:
        sizes = _sizes(rows, order, lower_order_final)
    ends = itertools.accumulate(sizes, initial=0)
    for begin, end in itertools.pairwise(ends):
        if begin < end:
            yield rows.points[begin : end + 1]


def _sizes(rows, order, lower_order_final):
    """How many of the times each step takes."""
    count, first = len(rows.points) - 1, int(len(rows.points) > 1 and rows.points[0].alpha == 0)
    sizes = [1] * first + [order] * ((count - first) // order) + [(count - first) % order]
    if lower_order_final and not rows.to_zero and sizes[-1] == 0 and sizes[-2:-1] == [order]:
        sizes[-2:] = [order - 1, 1]
    return sizes


def _points_between(rows, steps, *shares):
    """The Points at these shares of the log-SNR of every step of finite log-SNR, all in a row."""
    return at_log_ratios(
        rows,
        [
            t.log_ratio + share * (s.log_ratio - t.log_ratio)
            for t, s in steps
            if math.isfinite(s.log_ratio - t.log_ratio)
            for share in shares
        ],
    )


def dpm2(schedule, times):
    """The `dpm_2` of k-diffusion (Crowson 2022), with its name: the midpoint rule in the noise level sigma / alpha, at
    the middle of its logarithm. It is `dpm_solver_2s`."""
    return _two_stage_ancestral(schedule, times, "dpm2", False, 0.0, 1.0)


def dpm2_ancestral(schedule, times, *, eta=1.0, s_noise=1.0):
    """`dpm2` to a lower noise level than that of s, then noise up to it: the `dpm_2_ancestral` of k-diffusion (Crowson
    2022).

    eta scales the noise (0 is `dpm2`), s_noise only what is added. The order is that of mean and variance on Gaussian
    data. An infinite log-SNR, at either end, makes it a step of `euler_ancestral`.
    """
    return _two_stage_ancestral(schedule, times, "dpm2_ancestral", False, eta, s_noise)


def dpmpp_2s_ancestral(schedule, times, *, eta=1.0, s_noise=1.0):
    """`dpmpp_2s` to a lower noise level than that of s, then noise up to it: the `dpmpp_2s_ancestral` of k-diffusion
    (Crowson 2022). Options and order as those of `dpm2_ancestral`."""
    return _two_stage_ancestral(schedule, times, "dpmpp_2s_ancestral", True, eta, s_noise)


def _two_stage_ancestral(schedule, times, name, data, eta, s_noise):
    eta = require_number("eta", eta, least=0, most=1)
    s_noise = require_number("s_noise", s_noise, least=0)
    rows = Rows(schedule, times)
    downs = [ancestral(t, s, eta)[0] for t, s in itertools.pairwise(rows.points)]
    middles = iter(_points_between(rows, zip(rows.points, downs, strict=False), 1 / 2))
    for t, s in rows:
        down, up = ancestral(t, s, eta)
        noise = s_noise * up * z[0]
        if math.isfinite(down.log_ratio - t.log_ratio):
            _two_stages(rows, t, next(middles), down, data, "midpoint", noise)
        else:
            rows.add(t, step_to(down, t.eps) + noise)
    return rows.plan(name, order=2)


def dpmpp_sde(schedule, times, *, eta=1.0, s_noise=1.0):
    """DPM-Solver++ as an SDE solver in two stages, through the middle of the log-SNR: the `dpmpp_sde` of k-diffusion
    (Crowson 2022), r = 1/2. Both stages start from x_t; each goes to a lower noise level and adds noise up to its end.

    eta scales the noise (0 is `dpmpp_2s`), s_noise only what is added. The order is that of mean and variance on
    Gaussian data, with noise that is drawn anew in each stage.
    """
    eta = require_number("eta", eta, least=0, most=1)
    s_noise = require_number("s_noise", s_noise, least=0)
    rows = Rows(schedule, times)
    middles = iter(_points_between(rows, itertools.pairwise(rows.points), 1 / 2))
    for t, s in rows:
        down, up = ancestral(t, s, eta)
        if t.alpha == 0:
            rows.add(t, step_to(down, t.eps) + s_noise * up * z[0])
            continue
        middle = next(middles)
        lower, upper = ancestral(t, middle, eta)
        rows.add(t, step_to(lower, t.eps) + s_noise * upper * z[0], keep=(x,), span=(t, middle))
        rows.add(middle, exponential_step(t, down, [D], [t], base=h[0]) + s_noise * up * z[0])
    return rows.plan("dpmpp_sde", order=1)
