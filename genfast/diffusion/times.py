"""The times at which a diffusion model is trained: their distribution, and how a sample finds its own."""

import dataclasses
import math

import torch
from torch import Tensor

from .. import ops
from ..common.checks import require_number
from .process.schedules import Schedule

GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # 2^64 / the golden ratio, odd, as the int64 of these bits


def stratified(key: Tensor) -> Tensor:
    """u = frac(u_0(seed) + counter / golden ratio), (B,) float64 in [0, 1), for key (B, 2) = (seed, counter), int64.

    Consecutive counters are spread evenly, into whatever batches they fall: the gaps between 128 of them are 0.64, 1.04
    or 1.68 times their mean (Sos 1958: three distances), where those between independent points reach 5. In 64-bit
    integers, which wrap, so that counter 2^60 is as exact as counter 1. u_0 is noise of (seed, 0).
    """
    seed, counter = key.unbind(1)
    start = ops.uniform(torch.stack([seed, torch.zeros_like(seed)], 1), (), ops.Purpose.TIME, dtype=torch.float64)
    turns = ((start * 2**24).long() << 40) + counter * GOLDEN  # 2^64 of them are one
    return (turns >> 11 & 2**53 - 1).double() * 2**-53


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Training times t ~ U[t_min, 1]."""

    def __call__(self, schedule: Schedule, u: Tensor) -> Tensor:
        return schedule.t_min + (1 - schedule.t_min) * u


@dataclasses.dataclass(frozen=True)
class LogNormal:
    """Training times at which log(sigma / alpha) ~ N(mean, std^2). Karras et al. 2022, arXiv:2206.00364, table 1.

    mean: None is not known yet, and counts as -1.2 until `Diffusion.measure` takes 0.2 less than `log_half_lost`.
    """

    mean: float | None = None
    std: float = 1.0

    def __post_init__(self):
        if self.mean is not None:
            object.__setattr__(self, "mean", require_number("mean", self.mean))
        object.__setattr__(self, "std", require_number("std", self.std, least=0))

    def __call__(self, schedule: Schedule, u: Tensor) -> Tensor:
        mean = -1.2 if self.mean is None else self.mean
        log_ratio = mean + self.std * torch.special.ndtri(u.clamp(2**-25, 1 - 2**-25))
        return schedule.time(-2 * log_ratio).clamp(schedule.t_min, 1)


def require_within(schedule: Schedule, mean: float) -> None:
    """ValueError unless sigma / alpha of the schedule is e^mean at some time."""
    low, high = (math.exp(-schedule.log_snr(t) / 2) for t in (schedule.t_min, schedule.t_max))
    if not low <= math.exp(mean) <= high:
        raise ValueError(
            f"batch must hold data that lose half of themselves within the schedule, at sigma / alpha of {low:.3g} to "
            f"{high:.3g}; got {math.exp(mean):.3g}: divide x by its standard deviation first, or pass another schedule"
        )


TIMES = {"uniform": Uniform, "lognormal": LogNormal}
