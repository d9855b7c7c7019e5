"""genfast: train and sample generative models fast, on compiled kernels. See README.md."""

from . import (
    adaptive,
    batching,
    brownian,
    checkpoint,
    data,
    denoisers,
    diffusion,
    evaluation,
    features,
    grids,
    guidance,
    guided,
    images,
    inverse,
    inversion,
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
from .batching import SampleQueue
from .checkpoint import load, save
from .denoisers import Denoiser, GaussianMixtureDenoiser
from .diffusion import Diffusion
from .evaluation import compare, diagnose, evaluate
from .guidance import Guidance
from .info import info
from .training import fit
from .verify import verify

__all__ = [
    "Denoiser", "Diffusion", "GaussianMixtureDenoiser", "Guidance", "SampleQueue", "__version__", "adaptive",
    "batching", "brownian", "checkpoint", "compare", "data", "denoisers", "diagnose", "diffusion", "evaluate",
    "evaluation", "features", "fit", "grids", "guidance", "guided", "images", "info", "inverse", "inversion",
    "likelihood", "load", "metrics", "nn", "ops", "plans", "sampling", "save", "schedules", "solvers", "verify",
]  # fmt: skip
