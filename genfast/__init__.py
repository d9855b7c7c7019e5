"""genfast: train and sample generative models fast, on compiled kernels. See README.md."""

from . import checkpoint, classifier, evaluation, features, gaussian, latent_diffusion, metrics, nn, ops
from ._info import info
from ._version import __version__
from .checkpoint import load, save
from .classifier import GenerativeClassifier
from .data import dataset as data
from .data import images
from .diffusion import elbo, likelihood, solvers
from .diffusion import model as diffusion
from .diffusion.guidance import classifier_free as guidance
from .diffusion.guidance import gradient as guided
from .diffusion.guidance import inverse
from .diffusion.guidance.classifier_free import Guidance
from .diffusion.model import Diffusion
from .diffusion.process import denoisers, grids, plans, schedules
from .diffusion.process.denoisers import Denoiser
from .diffusion.sampling import adaptive, brownian, inversion
from .diffusion.sampling import queue as batching
from .diffusion.sampling import sample as sampling
from .diffusion.sampling.queue import SampleQueue
from .evaluation import compare, diagnose, evaluate
from .gan import model as gan
from .gan.model import GAN
from .gaussian import PPCA, Gaussian, GaussianMixture, spectral
from .gaussian.denoiser import GaussianMixtureDenoiser
from .latent_diffusion import LatentDiffusion
from .training.loop import fit
from .vae import likelihoods as vae_likelihoods
from .vae import model as vae
from .vae.autoencoder import autoencoder_kl
from .vae.model import VAE
from .verification import verify

__all__ = [
    "GAN", "PPCA", "VAE", "Denoiser", "Diffusion", "Gaussian", "GaussianMixture", "GaussianMixtureDenoiser",
    "GenerativeClassifier", "Guidance", "LatentDiffusion", "SampleQueue", "__version__", "adaptive", "autoencoder_kl",
    "batching", "brownian", "checkpoint", "classifier", "compare", "data", "denoisers", "diagnose", "diffusion",
    "elbo", "evaluate", "evaluation", "features", "fit", "gan", "gaussian", "grids", "guidance", "guided", "images",
    "info", "inverse", "inversion", "latent_diffusion", "likelihood", "load", "metrics", "nn", "ops", "plans",
    "sampling", "save", "schedules", "solvers", "spectral", "vae", "vae_likelihoods", "verify",
]  # fmt: skip
