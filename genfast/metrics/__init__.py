"""Metrics: distances between sets of samples."""

from .frechet import frechet

__all__ = ["frechet"]
