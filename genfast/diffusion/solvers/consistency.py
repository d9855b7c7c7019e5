"""Sampling of consistency models, whose network answers with the end of the trajectory and not with E[x_0 | x_t]."""

import math

from ..process.plans import D, Rows, z
from ._common import step_to


def lcm(schedule, times):
    """Multistep sampling of a latent consistency model: x_s = alpha_s D + sigma_s z, all noise drawn anew at each step.

    Luo et al. 2023, arXiv:2310.04378, algorithm 3. For networks distilled to answer with the end of the trajectory; no
    order, since D = E[x_0 | x_t] would not make it converge to anything.
    """
    rows = Rows(schedule, times)
    for t, s in rows:
        rows.add(t, step_to(s, z[0]))
    return rows.plan("lcm", order=0)


def consistency(schedule, times):
    """Multistep sampling of a consistency model: x_s / alpha_s = D + sqrt(n_s^2 - n_min^2) z, noise levels
    n = sigma / alpha, n_min that of the schedule's t_min, which an answer of the network still has.

    Song et al. 2023, arXiv:2303.01469, algorithm 1. No order, as `lcm`.
    """
    rows = Rows(schedule, times)
    lowest = rows.point(rows.schedule.t_min)
    for t, s in rows:
        # alpha_s sqrt(n_s^2 - n_min^2); no noise at or below t_min.
        spread = -math.expm1(2 * (s.log_ratio - lowest.log_ratio))
        rows.add(t, s.alpha * D + s.sigma * math.sqrt(max(0.0, spread)) * z[0])
    return rows.plan("consistency", order=0)
