"""Training: one plain loop for every model."""

from .ema import average
from .loop import Fit, fit
from .plot import plot
from .run_file import read_run, rebuilt_model
from .tensorboard import TensorBoard

__all__ = ["Fit", "TensorBoard", "average", "fit", "plot", "read_run", "rebuilt_model"]
