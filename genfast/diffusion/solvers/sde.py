"""Solvers of the reverse SDE, one evaluation a step, and Langevin dynamics."""

import itertools
import math

from ...common.checks import require_choice, require_count, require_number
from ..process.plans import Rows, x, z
from ._common import MOST, posterior, step_to


def _ddpm_step(t, s):
    mean, variance, _ = posterior(t, s)
    return mean + math.sqrt(variance) * z[0]


def _euler_maruyama_step(t, s):
    if t.alpha == 0:
        return _ddpm_step(t, s)
    f = t.d_alpha / t.alpha
    g2 = 2 * t.sigma * (t.d_sigma - f * t.sigma)
    return x + (s.t - t.t) * (f * x + g2 * t.eps / t.sigma) + math.sqrt((t.t - s.t) * g2) * z[0]


def _reverse_diffusion_step(t, s):
    if t.alpha == 0:
        return _ddpm_step(t, s)
    ratio, beta = t.alpha / s.alpha, posterior(t, s)[2]
    return (2 - ratio) * x - beta / t.sigma * t.eps + math.sqrt(beta) * z[0]


_PREDICTORS = {
    "reverse_diffusion": _reverse_diffusion_step,
    "euler_maruyama": _euler_maruyama_step,
    "ddpm": _ddpm_step,
}


def euler_maruyama(schedule, times):
    """Euler-Maruyama in t on the reverse SDE dx = (f x - g^2 score) dt + g dw. Song et al. 2021, arXiv:2011.13456.

    Where alpha(t) = 0 (Flow at t = 1) f and g are infinite; that step is the exact transition of `ddpm`.
    """
    rows = Rows(schedule, times)
    for t, s in rows:
        rows.add(t, _euler_maruyama_step(t, s))
    return rows.plan("euler_maruyama", order=1)


def reverse_diffusion(schedule, times):
    """The reverse SDE in the steps of the forward one: q(x_t | x_s) = N(r x_s, beta) gives
    x_s = (2 - r) x_t + beta score + sqrt(beta) z, r = alpha_t / alpha_s. Song et al. 2021, arXiv:2011.13456,
    appendix E.

    r and beta are those of the exact forward transition, on VP, VE, sub-VP and any other schedule. Where alpha(t) = 0
    the step is that of `ddpm`.
    """
    rows = Rows(schedule, times)
    for t, s in rows:
        rows.add(t, _reverse_diffusion_step(t, s))
    return rows.plan("reverse_diffusion", order=1)


def predictor_corrector(schedule, times, *, predictor="reverse_diffusion", corrector_steps=1, snr=0.16):
    """Langevin correctors at every time, then a predictor's step. Song et al. 2021, arXiv:2011.13456, algorithms 4
    and 5.

    predictor: "reverse_diffusion", "euler_maruyama" or "ddpm". snr: of the corrector, times alpha_t / alpha_s of the
    step as in the paper's VP code; no correctors where alpha(t) = 0. No order: a corrector of fixed snr has an error
    of its own that more steps do not lower.
    """
    predictor = require_choice("predictor", predictor, _PREDICTORS)
    corrector_steps = require_count("corrector_steps", corrector_steps, 0, MOST)
    snr = require_number("snr", snr, least=0)
    rows = Rows(schedule, times)
    for t, s in rows:
        if t.alpha * snr > 0:
            for _ in range(corrector_steps):
                rows.langevin(t, snr * t.alpha / s.alpha)
        rows.add(t, _PREDICTORS[predictor](t, s))
    return rows.plan("predictor_corrector", order=0)


def annealed_langevin(schedule, times, *, langevin_steps=100, step_size=0.2):
    """Langevin dynamics at each noise level n = sigma / alpha in turn, on y = x / alpha:
    y' = y - step_size n / 2 eps + sqrt(step_size) n z. Song and Ermon 2019, arXiv:1907.05600, algorithm 1.

    langevin_steps: evaluations at each level. step_size: over the square of the level; the paper's 2e-5 at n = 0.01 is
    0.2. No order: it converges with the number of levels and of steps at each. Where alpha(t) = 0 there is one step of
    `ddim` instead.
    """
    langevin_steps = require_count("langevin_steps", langevin_steps, 1, MOST)
    step_size = require_number("step_size", step_size, least=0, most=4)
    rows = Rows(schedule, times)
    for t, s in itertools.pairwise(rows.points):  # not over the rows: the noise within a level spans no interval
        if t.alpha == 0:
            rows.add(t, step_to(s, t.eps))
            continue
        moved = x - step_size / 2 * t.sigma * t.eps + math.sqrt(step_size) * t.sigma * z[0]
        for _ in range(langevin_steps - 1):
            rows.add(t, moved)
        rows.add(t, s.alpha / t.alpha * moved)
    return rows.plan("annealed_langevin", order=0)


def flow_sde(schedule, times, *, eta=1.0):
    """The SDE with the marginals of the straight path x = (1 - u) x_0 + u eps, u = sigma / (alpha + sigma), and noise
    of rate 2 eta u: dx = (v + eta eps) du + sqrt(2 eta u) dw backwards in u, v = eps - D.

    Steps are exact for constant D: eps is replaced by r eps + sqrt(1 - r^2) z, r = (u_s / u_t)^eta, in the step of
    `flow_euler`, which is eta = 0. Ma et al. 2024 (SiT), arXiv:2401.08740, for the family of SDEs.
    """
    eta = require_number("eta", eta, least=0)
    rows = Rows(schedule, times)
    for t, s in rows:
        log_ratio = math.log(s.sigma / (s.alpha + s.sigma)) - math.log(t.sigma / (t.alpha + t.sigma))
        kept, drawn = math.exp(eta * log_ratio), math.sqrt(-math.expm1(2 * eta * log_ratio))
        rows.add(t, step_to(s, kept * t.eps + drawn * z[0]))
    return rows.plan("flow_sde", order=1)
