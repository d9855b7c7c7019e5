"""Variational autoencoders."""

from . import likelihoods
from .autoencoder import autoencoder_kl
from .model import VAE, ActiveUnits

__all__ = ["VAE", "ActiveUnits", "autoencoder_kl", "likelihoods"]
