"""Features: what metrics compare samples in. A fingerprint says which, and nothing else compares with it."""

from .base import Features

__all__ = ["Features"]
