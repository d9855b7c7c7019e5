"""genfast: train and sample generative models fast, on compiled kernels. See README.md."""

from . import (
    adaptive,
    batching,
    brownian,
    checkpoint,
    data,
    denoisers,
    diffusion,
    grids,
    guidance,
    guided,
    images,
    inverse,
    inversion,
    latent_diffusion,
    likelihood,
    metrics,
    nn,
    ops,
    plans,
    sampling,
    schedules,
    solvers,
    vae,
    vae_likelihoods,
)
from ._version import __version__
from .batching import SampleQueue
from .checkpoint import load, save
from .denoisers import Denoiser, GaussianMixtureDenoiser
from .diffusion import Diffusion
from .guidance import Guidance
from .info import info
from .latent_diffusion import LatentDiffusion, autoencoder_kl
from .training import fit
from .vae import VAE
from .verify import verify

__all__ = [
    "VAE", "Denoiser", "Diffusion", "GaussianMixtureDenoiser", "Guidance", "LatentDiffusion", "SampleQueue",
    "__version__", "adaptive", "autoencoder_kl", "batching", "brownian", "checkpoint", "data", "denoisers", "diffusion",
    "fit", "grids", "guidance", "guided", "images", "info", "inverse", "inversion", "latent_diffusion", "likelihood",
    "load", "metrics", "nn", "ops", "plans", "sampling", "save", "schedules", "solvers", "vae", "vae_likelihoods",
    "verify",
]  # fmt: skip
