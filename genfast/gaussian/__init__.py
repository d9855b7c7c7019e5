"""Models in closed form: Gaussians, probabilistic PCA, mixtures. Density, score and denoiser are exact."""

from .gaussian import Gaussian
from .mixture import GaussianMixture
from .ppca import PPCA

__all__ = ["PPCA", "Gaussian", "GaussianMixture"]
