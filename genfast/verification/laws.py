"""Laws of the samples of a plan, known exactly: moments of a mixture and of a Gaussian, samples of a point mass."""

import math

import torch
from torch import Tensor

from ..diffusion.process.plans import Plan
from ..diffusion.sampling import sample
from .problems import MEAN, MEANS, MIXTURE, SCHEDULE, SEED, STD, VARIANCES, WEIGHTS, gaussian, marginal


def _deviation(values: Tensor, expected: Tensor | float, allowance: float = 0.0) -> float:
    """Distance of the mean of values: (N, *) from the expected one, beyond the allowance, in standard errors: the
    largest of all entries."""
    values = values.double()
    standard_error = (values.std(0) / math.sqrt(len(values))).clamp(min=1e-30)
    return float((((values.mean(0) - expected).abs() - allowance).clamp(min=0) / standard_error).max())


def mixture_moments(plan: Plan) -> dict:
    """Mean and covariance of 2048 samples of the mixture by the float32 kernels."""
    x = sample(MIXTURE, (2,), plan, 2048, seed=SEED, chunk=2048, progress=False).double()
    mean = WEIGHTS @ MEANS
    within = (WEIGHTS @ VARIANCES) * torch.eye(2, dtype=torch.float64, device="cpu")
    covariance = torch.einsum("k,ki,kj->ij", WEIGHTS, MEANS - mean, MEANS - mean) + within
    products = torch.einsum("ni,nj->nij", x - mean, x - mean)
    return {"mean_deviation": _deviation(x, mean), "covariance_deviation": _deviation(products, covariance)}


def gaussian_moments(plan: Plan) -> dict:
    """Mean and variance at t_min of 256 samples of Gaussian data in 256 dimensions, by the float32 kernels.

    A Langevin step of signal-to-noise ratio snr, not corrected by Metropolis, settles in high dimensions at
    1 / (1 - snr^2) of the variance (in low ones at more: the score is sometimes near 0); that much is allowed.
    """
    x = sample(gaussian(STD, 256), (256,), plan, 256, seed=SEED, chunk=256, progress=False).double()
    mean, variance = marginal(float(SCHEDULE.t_min))
    snr = plan.snr.max()
    # Per sample first: no independence of the dimensions is assumed.
    return {
        "mean_deviation": _deviation((x - mean).mean(1), 0.0),
        "covariance_deviation": _deviation(((x - mean) ** 2).mean(1), variance, variance * snr**2 / (1 - snr**2)),
    }


def point_mass(plan: Plan) -> dict:
    """What approximates neither ODE nor SDE still comes to data that is a single point: at t_min on average alpha x_0,
    up to rounding, and with no more noise than that of the row at hand. spread: noise there over that bound."""
    x = sample(gaussian(0.0, 16), (16,), plan, 512, seed=SEED, chunk=512, progress=False).double()
    alpha = SCHEDULE.alpha(float(SCHEDULE.t_min))
    bound = alpha / plan.alpha[-1] * plan.sigma[-1]
    noise = x - alpha * MEAN
    spread = float(noise.square().mean().sqrt() / bound)
    return {"mean_deviation": _deviation(noise.mean(1), 0.0, 1e-6), "spread": spread}


def rounding(plan: Plan) -> float:
    """Largest difference between the float32 kernels and float64 by plain torch, of the largest element, on Gaussian
    data: its flow does not magnify rounding, as that of a mixture does between the modes."""
    denoiser = gaussian(STD)

    def draw(dtype):
        return sample(denoiser, (64,), plan, 16, seed=SEED, chunk=16, dtype=dtype, progress=False)

    exact = draw(torch.float64)
    return float((draw(torch.float32) - exact).abs().max() / exact.abs().max())
