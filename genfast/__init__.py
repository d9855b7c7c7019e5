"""genfast: train and sample generative models fast, on compiled kernels. See README.md.

Every name is imported when it is first used, so that `genfast --help` need not wait for torch.
"""

import importlib
import threading
from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from . import (
        data,
        diffusion,
        evaluation,
        features,
        gan,
        gaussian,
        integrations,
        metrics,
        nn,
        ops,
        studies,
        testing,
        training,
        vae,
        verification,
    )
    from ._info import info
    from .checkpoint import load, save
    from .classifier import GenerativeClassifier
    from .diffusion import Diffusion, Guidance, Plan, solvers
    from .diffusion.process import denoisers, schedules
    from .evaluation import compare, diagnose, evaluate
    from .gan import GAN
    from .gaussian import PPCA, Gaussian, GaussianMixture
    from .latent_diffusion import LatentDiffusion
    from .training import Fit, fit
    from .vae import VAE
    from .verification import verify

_HOMES = {
    "Diffusion": "diffusion", "LatentDiffusion": "latent_diffusion", "VAE": "vae", "GAN": "gan",
    "Gaussian": "gaussian", "GaussianMixture": "gaussian", "PPCA": "gaussian", "GenerativeClassifier": "classifier",
    "Guidance": "diffusion", "Plan": "diffusion", "Fit": "training",
    "fit": "training", "evaluate": "evaluation", "compare": "evaluation", "diagnose": "evaluation",
    "verify": "verification", "save": "checkpoint", "load": "checkpoint", "info": "_info",
    "schedules": "diffusion.process.schedules", "denoisers": "diffusion.process.denoisers",
    "solvers": "diffusion.solvers",
    **{package: package for package in (
        "nn", "ops", "data", "diffusion", "vae", "gan", "gaussian", "training", "metrics", "features", "evaluation",
        "verification", "studies", "integrations", "testing",
    )},
}  # fmt: skip

__all__ = [
    "GAN", "PPCA", "VAE", "Diffusion", "Fit", "Gaussian", "GaussianMixture", "GenerativeClassifier", "Guidance",
    "LatentDiffusion", "Plan", "__version__", "compare", "data", "denoisers", "diagnose", "diffusion", "evaluate",
    "evaluation", "features", "fit", "gan", "gaussian", "info", "integrations", "load", "metrics", "nn", "ops", "save",
    "schedules", "solvers", "studies", "testing", "training", "vae", "verification", "verify",
]  # fmt: skip

_FIRST_USE = threading.RLock()  # two threads that import parent and child at once wait for each other


def __getattr__(name: str):
    """The package or module of that name, or what it lies in has under that name."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with _FIRST_USE:
        home = importlib.import_module(f".{_HOMES[name]}", __name__)
        return home if _HOMES[name].rpartition(".")[2] == name else getattr(home, name)


def __dir__() -> list[str]:
    return __all__
