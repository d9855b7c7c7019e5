"""genfast: train and sample generative models fast, on compiled kernels. See README.md."""

from . import (
    checkpoint,
    data,
    denoisers,
    diffusion,
    grids,
    images,
    likelihood,
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

__all__ = [
    "Denoiser", "Diffusion", "GaussianMixtureDenoiser", "__version__", "checkpoint", "data", "denoisers", "diffusion",
    "fit", "grids", "images", "info", "likelihood", "load", "metrics", "nn", "ops", "plans", "sampling", "save",
    "schedules", "solvers",
]  # fmt: skip
