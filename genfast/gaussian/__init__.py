"""Models in closed form: Gaussians, probabilistic PCA, mixtures. Density, score and denoiser are exact."""

from .denoiser import GaussianMixtureDenoiser
from .gaussian import Gaussian
from .mixture import GaussianMixture
from .model import covariance_parameters
from .ppca import PPCA
from .spectral import Spectral

__all__ = ["PPCA", "Gaussian", "GaussianMixture", "GaussianMixtureDenoiser", "Spectral", "covariance_parameters"]
