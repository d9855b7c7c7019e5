"""Multistep methods, one evaluation a step: Adams-Bashforth in the noise level, and exponential ones in
log(alpha / sigma), the DPM-Solver family, DEIS and UniPC."""

import math

from ...common.checks import require_bool, require_choice, require_integer, require_number
from ..process.plans import D, Rows, h, x, z
from ._common import DATA, adams_moments, exponential_step, level, orders, quadrature, step_to


def lms(schedule, times, *, order=4, lower_order_final=False):
    """Adams-Bashforth in the noise level n = sigma / alpha on x / alpha, whose slope is eps: the integral of the
    polynomial through the last 1 to 4 values, on any grid. The `lms` of k-diffusion (Crowson 2022); order 1 is
    deterministic `ddim`.

    lower_order_final: orders ..., 3, 2, 1 in the last steps. Without it a last step to t = 0 is of full order as well,
    and not x' = D.
    """
    rows = Rows(schedule, times)
    return _adams(
        rows,
        "lms",
        order,
        lower_order_final,
        lambda past, s: [(level(p) - level(past[0])) / (level(s) - level(past[0])) for p in past],
    )


def ipndm(schedule, times, *, order=4, lower_order_final=False):
    """`lms` with the weights of a uniform grid, on any grid: (3, -1) / 2, (23, -16, 5) / 12, (55, -59, 37, -9) / 24.
    Zhang and Chen 2022, arXiv:2204.13902, after Liu et al. 2022 (PNDM), arXiv:2202.09778.

    Its order of convergence is `order` where the noise level is uniform, else 2 at most.
    """
    rows = Rows(schedule, times)
    return _adams(
        rows, "ipndm", order, lower_order_final, lambda past, s: [-float(k) for k in range(len(past))], declared=2
    )


def _adams(rows, name, order, lower_order_final, nodes, declared=4):
    """x_s / alpha_s = x_t / alpha_t + (n_s - n_t) sum_k w_k eps_k, w from `nodes(points, s)`, t at 0 and s at 1.
    declared: the most that its order of convergence may be."""
    order = require_integer("order", order, 1, 4)
    lower_order_final = require_bool("lower_order_final", lower_order_final)

    def update(step, count, s):
        past = rows.past(step, count)
        t = past[0]
        if count == 1:
            return step_to(s, t.eps)
        weights = quadrature(adams_moments(count), nodes(past, s))
        slope = sum(weight * value for weight, value in zip(weights, [t.eps, *h], strict=False))
        return s.alpha / t.alpha * x + (s.sigma - s.alpha * level(t)) * slope

    counts = orders(rows, order, lower_order_final)
    for step, (t, s) in enumerate(rows):
        rows.add(t, update(step, counts[step], s), keep=_shifted(t.eps, step, order))
    last = update(len(rows.points) - 1, counts[-1], DATA) if rows.to_zero else None
    return rows.plan(name, min(order, declared), last=last)


def _shifted(value, step, order):
    """Slots of the last order - 1 values: the present one, and those that are there, one further."""
    return [value, *h[:step]][: order - 1]


def _exponential(
    schedule, times, name, order, *, lower_order_final, declared=None, eta=0.0, s_noise=1.0, data=True, **options
):
    """The rows of exponential multistep methods; `options` are those of `exponential_step`."""
    lower_order_final = require_bool("lower_order_final", lower_order_final)
    require_choice("solver_type", options.get("solver_type", "heun"), ("midpoint", "heun"))
    options["curvature"] = require_number("curvature", options.get("curvature", 1.0), least=0)
    eta = require_number("eta", eta, least=0)
    s_noise = require_number("s_noise", s_noise, least=0)
    rows = Rows(schedule, times)
    counts = orders(rows, order, lower_order_final and rows.steps < 15)
    for step, (t, s) in enumerate(rows):
        value = D if data else t.eps
        nodes = rows.past(step, counts[step])
        on_data = data or t.alpha == 0  # the integral of eps is infinite from there, that of D is not
        values = [D if on_data else value, *h[: counts[step] - 1]]
        update = exponential_step(t, s, values, nodes, data=on_data, eta=eta, **options)
        step_size = 2 * (s.log_ratio - t.log_ratio)
        variance = (-math.expm1(-eta * step_size) if on_data else eta * math.expm1(step_size)) if eta else 0.0
        rows.add(t, update + s_noise * s.sigma * math.sqrt(variance) * z[0], keep=_shifted(value, step, order))
    return rows.plan(name, declared or order)


def _third(curvature):
    """The order of the 3M methods."""
    return 3 if require_number("curvature", curvature, least=0) == 1 else 2


def dpm_solver_2m(schedule, times, *, solver_type="midpoint", lower_order_final=True):
    """DPM-Solver of order 2, multistep: `dpmpp_2m` on eps in place of D. Lu et al. 2022, arXiv:2206.00927 (the authors'
    code). With solver_type "heun" it is `deis` of order 2."""
    return _exponential(
        schedule, times, "dpm_solver_2m", 2, data=False, solver_type=solver_type, lower_order_final=lower_order_final
    )


def dpm_solver_2m_sde(
    schedule, times, *, order=2, eta=1.0, s_noise=1.0, solver_type="midpoint", lower_order_final=True
):
    """The SDE form of `dpm_solver_2m`: x_s = alpha_s / alpha_t x_t - (1 + eta) sigma_s int e^... eps + sigma_s sqrt(eta
    (e^(2h) - 1)) z. eta = 0 is `dpm_solver_2m`, eta = 1 the reverse SDE; order 1 keeps no history. Lu et al. 2022,
    arXiv:2211.01095, appendix; `dpmpp_2m_sde` is the better one."""
    order = require_integer("order", order, 1, 2)
    return _exponential(
        schedule, times, "dpm_solver_2m_sde", order, data=False, eta=eta, s_noise=s_noise, solver_type=solver_type,
        lower_order_final=lower_order_final,
    )  # fmt: skip


def dpm_solver_3m(schedule, times, *, solver_type="midpoint", curvature=1.0, lower_order_final=True):
    """DPM-Solver of order 3, multistep: `dpmpp_3m` on eps in place of D. Lu et al. 2022, arXiv:2206.00927 (the authors'
    code). With solver_type "heun" it is `deis` of order 3."""
    return _exponential(
        schedule, times, "dpm_solver_3m", 3, data=False, solver_type=solver_type, curvature=curvature,
        lower_order_final=lower_order_final, declared=_third(curvature),
    )  # fmt: skip


def dpmpp_2m(schedule, times, *, solver_type="midpoint", lower_order_final=True):
    """DPM-Solver++(2M), second-order multistep in the log-SNR. Lu et al. 2022, arXiv:2211.01095, algorithm 2.

    First order in the first step and in the last one to t = 0. solver_type: "midpoint" takes D at the middle of the
    step, extrapolated from the last two, as in the paper; "heun" integrates the line through them exactly.
    lower_order_final: with fewer than 15 steps the last one is of first order, wherever it ends.
    """
    return _exponential(schedule, times, "dpmpp_2m", 2, solver_type=solver_type, lower_order_final=lower_order_final)


def dpmpp_3m(schedule, times, *, solver_type="midpoint", curvature=1.0, lower_order_final=True):
    """DPM-Solver++(3M), third-order multistep in the log-SNR. Lu et al. 2022, arXiv:2211.01095 (the authors' code).

    The exact integral of the parabola through the last three D. curvature scales its quadratic term: the authors' code
    and those that follow it halve it (0.5), which leaves the method second order. First and second order in the first
    steps, and in the last of fewer than 15 if lower_order_final; solver_type, of its second-order steps, as `dpmpp_2m`.
    """
    return _exponential(
        schedule, times, "dpmpp_3m", 3, solver_type=solver_type, curvature=curvature,
        lower_order_final=lower_order_final, declared=_third(curvature),
    )  # fmt: skip


def dpmpp_2m_sde(schedule, times, *, eta=1.0, s_noise=1.0, solver_type="midpoint", lower_order_final=True):
    """The SDE form of DPM-Solver++(2M). eta = 0 is `dpmpp_2m`, eta = 1 the reverse SDE; s_noise scales what is added.

    Lu et al. 2022, arXiv:2211.01095, appendix. The order is that of the mean and variance on Gaussian data.
    """
    return _exponential(
        schedule, times, "dpmpp_2m_sde", 2, eta=eta, s_noise=s_noise, solver_type=solver_type,
        lower_order_final=lower_order_final,
    )  # fmt: skip


def dpmpp_3m_sde(schedule, times, *, eta=1.0, s_noise=1.0, solver_type="heun", curvature=1.0, lower_order_final=False):
    """The SDE form of DPM-Solver++(3M): `dpmpp_3m` with the noise of `dpmpp_2m_sde`. With curvature = 0.5 it is the
    `dpmpp_3m_sde` of k-diffusion (Crowson 2023)."""
    return _exponential(
        schedule, times, "dpmpp_3m_sde", 3, eta=eta, s_noise=s_noise, solver_type=solver_type, curvature=curvature,
        lower_order_final=lower_order_final, declared=2,
    )  # fmt: skip


def deis(schedule, times, *, order=3, lower_order_final=True):
    """DEIS, tAB in log rho, rho = sigma / alpha: the exact integral over rho of the polynomial in log rho through the
    last 1 to 3 values of eps. Zhang and Chen 2022, arXiv:2204.13902. Order 1 is deterministic `ddim`.

    lower_order_final: with fewer than 15 steps, orders 2, 1 in the last ones.
    """
    order = require_integer("order", order, 1, 3)
    return _exponential(schedule, times, "deis", order, data=False, lower_order_final=lower_order_final)


_B = {"bh1": lambda z: z, "bh2": math.expm1}


def unipc(schedule, times, *, order=2, variant="bh2", lower_order_final=True):
    """UniPC on D: a multistep predictor (UniP), and a corrector (UniC) that takes in the value at its end, which the
    next step needs anyway. Zhao et al. 2023, arXiv:2302.04867, algorithms 1 and 2.

    order: p of the predictor, 1 to 3; the corrector makes the whole of order p + 1. variant: B(h) = h ("bh1") or
    e^h - 1 ("bh2"); it matters where two values make a step. lower_order_final: orders ..., 2, 1 in the last steps;
    where the last one ends above t = 0, that costs order 3 a part of its order.
    """
    order = require_integer("order", order, 1, 3)
    variant = require_choice("variant", variant, _B)
    lower_order_final = require_bool("lower_order_final", lower_order_final)
    rows = Rows(schedule, times)
    counts, B = orders(rows, order, lower_order_final), _B[variant]
    for step, (t, s) in enumerate(rows):
        corrected = x
        if step and rows.points[step - 1].alpha > 0:
            # The last step once more, from its corrected start h[0], with D at its end among the values.
            count = counts[step - 1]
            past = rows.past(step - 1, count)
            corrected = exponential_step(past[0], t, [*h[1 : 1 + count], D], [*past, t], base=h[0], B=B)
        count = counts[step]
        nodes = rows.past(step, count)
        update = exponential_step(t, s, [D, *h[1:count]], nodes, base=corrected, B=B)
        rows.add(t, update, keep=(corrected, D, *h[1 : 1 + step])[: order + 1])
    return rows.plan("unipc", order + 1)
