"""What the solver families share: the steps that several solvers fall back to, and the quadrature of multistep and
exponential methods."""

import math

import numpy as np
import torch

from ..process.plans import D, Point, x

# j! and (n + j + 1)!, j by n: of the series of `exponential_moments`.
_SERIES = [[(float(math.factorial(j)), float(math.factorial(n + j + 1))) for n in range(16)] for j in range(4)]
MOST = 10_000  # rows that a solver takes at one time
DATA = Point(t=0.0, alpha=1.0, sigma=0.0, d_alpha=math.nan, d_sigma=math.nan, log_ratio=math.inf)  # t = 0


def level(point):
    """The noise level sigma / alpha, the time of the solvers that run on x / alpha; inf where alpha = 0."""
    return math.exp(-point.log_ratio)


def at_log_ratios(rows, log_ratios):
    """The Points of the schedule with these log(alpha / sigma), all at once."""
    return rows.points_at(rows.schedule.time(2 * torch.tensor(log_ratios, dtype=torch.float64, device="cpu")))


def step_to(s, eps):
    """The state at s of the present estimate and a noise: alpha_s D + sigma_s eps. With t.eps it is DDIM's step."""
    return s.alpha * D + s.sigma * eps


def posterior(t, s):
    """q(x_s | x_t, x_0 = D): its mean and its variance; and that of q(x_t | x_s), which is DDPM's beta."""
    beta = -(t.sigma**2) * math.expm1(2 * (t.log_ratio - s.log_ratio))  # sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2
    mean = t.alpha / s.alpha * s.sigma**2 / t.sigma**2 * x + s.alpha * beta / t.sigma**2 * D
    return mean, beta * s.sigma**2 / t.sigma**2, beta


def ancestral(t, s, eta):
    """Splits the step to s: (down, up), the Point of lower noise to go to without noise, and the noise to add there.

    up = eta times the standard deviation of q(x_s | x_t, x_0), sigma_down^2 = sigma_s^2 - up^2, both with alpha_s.
    `down` need not be on the schedule; at sigma_down = 0 its log_ratio is inf.
    """
    if eta == 0:  # backwards in time too, where that variance is negative
        return s, 0.0
    up = eta * s.sigma * math.sqrt(-math.expm1(2 * (t.log_ratio - s.log_ratio)))
    down = math.sqrt(max(0.0, s.sigma**2 - up**2))  # up = sigma_s up to rounding where eta = 1 and alpha_t = 0
    return s._replace(sigma=down, log_ratio=math.log(s.alpha / down) if down else math.inf), up


def orders(rows, order, lower_order_final=False):
    """The order of every step of a multistep method: 1, 2, ... to `order` at the start, where there is no history yet;
    down to 1 again at the end if asked. A first time of alpha = 0 is infinitely far and no part of the history."""
    lost = int(rows.points[0].alpha == 0)
    return [
        min(order, max(1, step + 1 - lost), rows.steps - step if lower_order_final else order)
        for step in range(rows.steps)
    ]


def quadrature(moments, nodes):
    """Weights w with sum_k w_k f(u_k) = sum_j moments_j c_j for the polynomial f(u) = sum_j c_j u^j through the nodes
    u_k, as many as moments."""
    if len(nodes) == 2 and nodes[0] == 0:  # most of them, and ten times as fast
        slope = moments[1] / nodes[1]
        return np.array([moments[0] - slope, slope])
    return np.linalg.solve(np.vander(nodes, increasing=True).T, moments)


def adams_moments(count):
    """Integrals of 1, u, u^2, ... over the step, 0 to 1."""
    return 1 / np.arange(1.0, count + 1)


def exponential_moments(z, count):
    """z times the integrals of exp(z (1 - u)) u^j over the step, for j = 0, 1, ...; z may be -inf."""
    if abs(z) > 0.5:
        moments = [math.expm1(z)]  # the integral over j by parts: M_j = j M_{j-1} / z - 1
        for j in range(1, count):
            moments.append(j * moments[-1] / z - 1)
        return np.array(moments)
    # The series in z: there the recursion loses digits.
    powers = [z ** (n + 1) for n in range(16)]
    series = [[power * top / bottom for power, (top, bottom) in zip(powers, _SERIES[j])] for j in range(count)]
    return np.array([math.fsum(terms) for terms in series])


def exponential_step(t, s, values, nodes, *, base=x, data=True, solver_type="heun", eta=0.0, curvature=1.0, B=None):
    """The exponential integrator's step from t to s, in log(alpha / sigma), on values at nodes, the first of them t.

    data: the values are D, x_s = sigma_s / sigma_t e^(-eta h) base + alpha_s int ...; otherwise they are eps,
    x_s = alpha_s / alpha_t base - (1 + eta) sigma_s int .... The integral is that of the polynomial through the values
    ("heun"); "midpoint" takes a slope at the middle of the step instead of its integral, where there are two values.
    curvature scales the quadratic term. B: UniPC's B(h), which takes the place of twice the slope's integral.
    """
    step = s.log_ratio - t.log_ratio  # infinite if alpha_t = 0 or sigma_s = 0: then there is only one value
    z = -(1 + eta) * step if data else step
    moments = exponential_moments(z, len(values))
    if len(values) == 2 and solver_type == "midpoint":
        moments[1] = moments[0] / 2
    if B is not None and len(values) == 2:
        moments[1] = B(z) / 2
    moments[2:] *= curvature
    weights = quadrature(moments, [0.0, *((node.log_ratio - t.log_ratio) / step for node in nodes[1:])])
    integral = sum(weight * value for weight, value in zip(weights, values, strict=True))
    if data:
        return s.sigma / t.sigma * (math.exp(-eta * step) if eta else 1.0) * base - s.alpha * integral
    return s.alpha / t.alpha * base - (1 + eta) * s.sigma * integral
