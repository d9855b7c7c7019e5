"""Data from what a user hands over: a file, a folder, an array, a pair."""

from pathlib import Path

import numpy as np
from torch import Tensor

from ..data.dataset import Data, as_data
from ..data.files import load


def read(value, argument: str) -> tuple[str, Data]:
    """(name, Data) of a Data, a tensor or array, a pair (x, label), or what `data.load` takes: a file or a folder."""
    if isinstance(value, str | Path):
        try:
            return Path(value).name, load(value)
        except (TypeError, ValueError, OSError) as error:
            raise type(error)(f"{argument}: {error}") from error
    if not isinstance(value, Data | Tensor | np.ndarray | tuple):
        also = "a model with sample(), " if argument == "model" else ""
        forms = f"{also}Data, a tensor, an array, a pair (x, label) or a path"
        raise TypeError(f"{argument}: expected {forms}, got {type(value).__name__}")
    try:
        return "Data" if isinstance(value, Data) else "array", as_data(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{argument}: {error}") from error
