"""RePaint: DDPM that steps to and fro between two times, for inpainting. Lugmayr et al. 2022, arXiv:2201.09865."""

import math

from ...common.checks import require_count
from ..process.plans import D, Rows, z
from ._common import MOST, posterior


def repaint(schedule, times, *, resample=10):
    """Every step of `ddpm` (small variance) made `resample` times, with a jump back to its own start between:

        x_t = alpha_t / alpha_s x_s + sqrt(sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2) z_1

    the forward process, so that what is put in place of the known pixels (`mask` and `known` of `sampling.sample`) has
    time to harmonize with the rest. The jump is affine and belongs to the row of the step before it: a row ends at t,
    the last of its step at s. The step to t = 0 is made once. Lugmayr et al. 2022, arXiv:2201.09865, algorithm 1 with
    jump length 1.

    resample: 1 is `ddpm`; costs as many evaluations a step.
    """
    resample = require_count("resample", resample, 1, MOST)
    rows = Rows(schedule, times)
    for t, s in rows:
        mean, variance, jump = posterior(t, s)
        arrival = mean + math.sqrt(variance) * z[0]
        for _ in range(resample - 1):
            rows.add(t, t.alpha / s.alpha * arrival + math.sqrt(jump) * z[1])
        rows.add(t, arrival)
    return rows.plan("repaint", order=0, last=D)
