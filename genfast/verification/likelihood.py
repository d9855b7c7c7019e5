"""Checks of the likelihood against the true one of a Gaussian mixture, whose score is exact."""

from collections.abc import Callable

import torch

from ..diffusion.likelihood import log_likelihood
from ..gaussian.denoiser import GaussianMixtureDenoiser
from .problems import MIXTURE, SCHEDULE, SEED
from .report import Record

ALLOWED = 1e-3  # nats per dimension, with exact divergence
STANDARD_ERRORS = 3  # of the mean over the samples, with an estimated one
SAMPLES, PROBES = 16, 8


def _image_mixture() -> GaussianMixtureDenoiser:
    """Three modes in the shape of an image, with one full covariance each."""
    generator = torch.Generator().manual_seed(SEED)
    means = torch.randn(3, 2, 2, 2, generator=generator, dtype=torch.float64, device="cpu")
    factors = torch.randn(3, 8, 8, generator=generator, dtype=torch.float64, device="cpu") / 8**0.5
    covariances = factors @ factors.mT / 4 + 0.1 * torch.eye(8, dtype=torch.float64, device="cpu")
    return GaussianMixtureDenoiser([0.2, 0.3, 0.5], means, covariances, SCHEDULE)


def _check(name: str, denoiser: GaussianMixtureDenoiser, divergence: str) -> Record:
    x = denoiser.sample(SAMPLES, torch.Generator().manual_seed(SEED))
    found = log_likelihood(
        denoiser, x, divergence=divergence, probes=PROBES, seed=SEED, prior=denoiser.log_prob, steps=60, progress=False
    )
    error = found.nats - denoiser.log_prob(x)
    if divergence == "exact":
        worst, allowed, unit = float(error.abs().max()) / x[0].numel(), ALLOWED, "nats per dimension"
    else:
        standard_error = float(found.se.square().sum().sqrt()) / SAMPLES
        worst, allowed, unit = abs(float(error.mean())) / standard_error, STANDARD_ERRORS, "standard errors"
    failures = () if worst <= allowed else (f"{worst:.2e} {unit} from the truth; {allowed:g} allowed",)
    return Record(name, "likelihood", failures, figures={"error": worst, "allowed": allowed, "unit": unit})


CHECKS: dict[str, tuple[Callable[[], GaussianMixtureDenoiser], str]] = {
    "log-likelihood in 2-D, exact divergence, nats/dim": (lambda: MIXTURE, "exact"),
    "log-likelihood of (2, 2, 2), exact divergence, nats/dim": (_image_mixture, "exact"),
    "log-likelihood of (2, 2, 2), Rademacher, standard errors": (_image_mixture, "rademacher"),
    "log-likelihood of (2, 2, 2), Gaussian, standard errors": (_image_mixture, "gaussian"),
}


def check_likelihood(name: str) -> Record:
    """The Record of one of the CHECKS: samples of the mixture, its true terminal density, 60 steps."""
    make, divergence = CHECKS[name]
    return _check(name, make(), divergence)
