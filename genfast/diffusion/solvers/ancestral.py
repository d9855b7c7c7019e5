"""Ancestral solvers: one evaluation a step, then noise that keeps the marginals of the forward process."""

import math

from ...common.checks import require_choice, require_number
from ..process.plans import D, Rows, z
from ._common import ancestral, posterior, step_to


def ddpm(schedule, times, *, variance="small", data_std=None):
    """Ancestral sampling, x_s ~ q(x_s | x_t, x_0 = D). Ho et al. 2020, arXiv:2006.11239.

    variance: "small" (beta-tilde, exact for a point mass), "large" (beta, exact for unit Gaussian data on a VP
    schedule), or "analytic", exact for Gaussian data of standard deviation `data_std` (the last step to 0 included):
    V_s - (alpha_t / alpha_s V_s)^2 / V_t with V = alpha^2 data_std^2 + sigma^2. Bao et al. 2022, arXiv:2201.06503.
    """
    variance = require_choice("variance", variance, ("small", "large", "analytic"))
    if (variance == "analytic") != (data_std is not None):
        raise ValueError(f"data_std goes with variance='analytic' and nothing else; got {data_std!r} with {variance!r}")
    if data_std is not None:
        data_std = require_number("data_std", data_std, least=0)
    rows = Rows(schedule, times)
    for t, s in rows:
        mean, small, large = posterior(t, s)
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
    eta = require_number("eta", eta, least=0, most=1)
    return _euler_ancestral(Rows(schedule, times), "ddim", eta, 1.0)


def euler_ancestral(schedule, times, *, eta=1.0, s_noise=1.0):
    """Euler's method in the noise level n = sigma / alpha on x / alpha, to a lower level than that of s, and noise up
    to it: x_s / alpha_s = x_t / alpha_t + (n_down - n_t) eps + s_noise n_up z.

    On VE and EDM schedules this is the `euler_ancestral` of k-diffusion (Crowson 2022); with s_noise = 1 it is `ddim`
    of the same eta, so that eta = 0 is Euler in the noise level and eta = 1 is `ddpm`.
    """
    eta = require_number("eta", eta, least=0, most=1)
    s_noise = require_number("s_noise", s_noise, least=0)
    return _euler_ancestral(Rows(schedule, times), "euler_ancestral", eta, s_noise)


def _euler_ancestral(rows, name, eta, s_noise):
    for t, s in rows:
        down, up = ancestral(t, s, eta)
        rows.add(t, step_to(down, t.eps) + s_noise * up * z[0])
    return rows.plan(name, order=1)
