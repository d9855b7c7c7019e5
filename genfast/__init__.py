"""genfast: train and sample generative models fast, on compiled kernels. See README.md."""

from . import (
    checkpoint,
    data,
    denoisers,
    diffusion,
    grids,
    images,
    metrics,
    nn,
    ops,
    plans,
    sampling,
    schedules,
    solvers,
)
from ._version import __version__
from .checkpoint import load, save
from .denoisers import Denoiser, GaussianMixtureDenoiser
from .diffusion import Diffusion
from .info import info
from .training import fit
from .verify import verify

__all__ = [
    "Denoiser", "Diffusion", "GaussianMixtureDenoiser", "__version__", "checkpoint", "data", "denoisers", "diffusion",
    "fit", "grids", "images", "info", "load", "metrics", "nn", "ops", "plans", "sampling", "save", "schedules",
    "solvers", "verify",
]  # fmt: skip
