"""Generative adversarial networks."""

from . import augment, losses
from .model import GAN
from .monitor import Health

__all__ = ["GAN", "Health", "augment", "losses"]
