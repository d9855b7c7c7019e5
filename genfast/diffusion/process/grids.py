"""Time grids: functions from (schedule, steps) to the times at which a solver steps.

steps + 1 decreasing float64 times, from 1 (noise) to exactly 0 (data). The last before 0 is the schedule's t_min,
except on the ddpm grid.
"""

import math

import torch

from ...common.checks import require_integer, require_number
from .schedules import as_schedule

MAX_STEPS = 1_000_000  # a plan is a table in memory


def _grid(schedule, steps, inner):
    """steps + 1 decreasing float64 times: 1, ..., t_min, 0. `inner(u)` maps u in [0, 1] to the times between."""
    steps = require_integer("steps", steps, 1, MAX_STEPS)
    times = torch.zeros(steps + 1, dtype=torch.float64, device="cpu")
    times[:-1] = inner(torch.linspace(0, 1, steps, dtype=torch.float64, device="cpu"))
    times[-2] = schedule.t_min
    times[0] = 1.0
    return times


def uniform(schedule, steps):
    """Uniform in t."""
    schedule = as_schedule(schedule)
    return _grid(schedule, steps, lambda u: 1 + u * (schedule.t_min - 1))


def karras(schedule, steps, rho=None):
    """Uniform in (sigma / alpha)^(1/rho) from the schedule's t_max on; the first time is 1 all the same.

    rho: that of the schedule by default. Karras et al. 2022, arXiv:2206.00364, equation 5.
    """
    schedule = as_schedule(schedule)
    rho = schedule.rho if rho is None else require_number("rho", rho, above=0)
    high, low = (math.exp(-schedule.log_snr(t) / (2 * rho)) for t in (schedule.t_max, schedule.t_min))
    return _grid(schedule, steps, lambda u: schedule.time(-2 * rho * torch.log(high + u * (low - high))))


def log_snr(schedule, steps):
    """Uniform in the log-SNR from the schedule's t_max on; the first time is 1 all the same."""
    schedule = as_schedule(schedule)
    low, high = schedule.log_snr(schedule.t_max), schedule.log_snr(schedule.t_min)
    return _grid(schedule, steps, lambda u: schedule.time(low + u * (high - low)))


def ddpm(schedule, steps):
    """Every (1000 / steps)-th of DDPM's 1000 discrete times k / 1000, counted from 1 ("trailing"; Lin et al. 2023,
    arXiv:2305.08891).

    The last time before 0 is the last of these, about 1 / steps, and not t_min. More than 1000 steps raise a
    ValueError.
    """
    steps = require_integer("steps of the ddpm grid", steps, 1, 1000)
    times = _grid(as_schedule(schedule), steps, torch.ones_like)
    multiples = [1000 - (2000 * i + steps) // (2 * steps) for i in range(steps)]  # 1000 (1 - i / steps), rounded
    times[:-1] = torch.tensor(multiples, dtype=torch.float64, device="cpu") / 1000
    return times


GRIDS = {"uniform": uniform, "karras": karras, "log_snr": log_snr, "ddpm": ddpm}
