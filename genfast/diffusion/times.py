"""Distributions of the times at which a diffusion model is trained."""

import dataclasses

import torch
from torch import Tensor

from ..common.checks import require_number
from .process.schedules import Schedule


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Training times t ~ U[t_min, 1]."""

    def __call__(self, schedule: Schedule, u: Tensor) -> Tensor:
        return schedule.t_min + (1 - schedule.t_min) * u


@dataclasses.dataclass(frozen=True)
class LogNormal:
    """Training times at which log(sigma / alpha) ~ N(mean, std^2). Karras et al. 2022, arXiv:2206.00364, table 1."""

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self):
        object.__setattr__(self, "mean", require_number("mean", self.mean))
        object.__setattr__(self, "std", require_number("std", self.std, least=0))

    def __call__(self, schedule: Schedule, u: Tensor) -> Tensor:
        log_ratio = self.mean + self.std * torch.special.ndtri(u.clamp(2**-25, 1 - 2**-25))
        return schedule.time(-2 * log_ratio).clamp(schedule.t_min, 1)


TIMES = {"uniform": Uniform, "lognormal": LogNormal}
