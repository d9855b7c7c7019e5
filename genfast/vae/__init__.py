"""Variational autoencoders."""

from . import likelihoods
from .active import ActiveUnits
from .autoencoder import autoencoder_kl
from .model import VAE

__all__ = ["VAE", "ActiveUnits", "autoencoder_kl", "likelihoods"]
