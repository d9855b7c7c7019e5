"""Data whose denoiser is exact, and the plans that the checks take."""

import math

import torch

from ..diffusion.process.grids import log_snr
from ..diffusion.process.plans import Plan
from ..diffusion.process.schedules import VPLinear
from ..diffusion.solvers import SOLVERS
from ..gaussian.denoiser import GaussianMixtureDenoiser

SCHEDULE = VPLinear()
SEED = 0

# Five modes on a circle, of different weights and widths.
_ANGLES = torch.arange(5, dtype=torch.float64, device="cpu") * 0.4 * math.pi
WEIGHTS = torch.tensor([0.1, 0.15, 0.2, 0.25, 0.3], dtype=torch.float64, device="cpu")
MEANS = 1.5 * torch.stack([_ANGLES.cos(), _ANGLES.sin()], 1)
VARIANCES = torch.tensor([0.02, 0.04, 0.06, 0.03, 0.05], dtype=torch.float64, device="cpu")
MIXTURE = GaussianMixtureDenoiser(WEIGHTS, MEANS, VARIANCES, SCHEDULE)

# A Gaussian, on which the law of a plan's end follows without sampling noise.
MEAN, STD = 0.7, 0.5


def marginal(t: float) -> tuple[float, float]:
    """Mean and variance of x_t of the Gaussian data."""
    alpha, sigma = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
    return alpha * MEAN, alpha**2 * STD**2 + sigma**2


def gaussian(std: float, dimensions: int = 64) -> GaussianMixtureDenoiser:
    mean = torch.full((1, dimensions), MEAN, dtype=torch.float64, device="cpu")
    return GaussianMixtureDenoiser([1.0], mean, [std**2], SCHEDULE)


def plan_of(solver: str, steps: int, to_zero: bool = True) -> Plan:
    """The plan on the log-SNR grid, with its last step to t = 0 or, by `to_zero`, without."""
    times = log_snr(SCHEDULE, steps)
    return SOLVERS[solver](SCHEDULE, times if to_zero else times[:-1])
