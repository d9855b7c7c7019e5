"""Training: one plain loop for every model."""

from .loop import Fit, fit

__all__ = ["Fit", "fit"]
