"""Training: one plain loop for every model."""

from .loop import Fit, fit
from .run_file import read_run, rebuilt_model

__all__ = ["Fit", "fit", "read_run", "rebuilt_model"]
