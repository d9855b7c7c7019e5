"""Training: one plain loop for every model."""

from .loop import Fit, fit
from .plot import plot
from .tensorboard import TensorBoard

__all__ = ["Fit", "TensorBoard", "fit", "plot"]
