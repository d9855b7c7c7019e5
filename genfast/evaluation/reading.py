"""Data from what a user hands over: a file, a folder, an array, a pair. A file is opened once in a run."""

import dataclasses
from pathlib import Path

import numpy as np
from torch import Tensor

from ..common import processes
from ..data.dataset import Data, as_data
from ..data.files import is_named, load
from ..data.foreign import is_dataset
from ..data.kept import near


@dataclasses.dataclass(frozen=True)
class NamedData:
    """Data, and the name under which they stand in a report."""

    name: str
    data: Data


class Reader:
    """Reads what a user hands over, and keeps what came from files: one that two arguments name is opened once."""

    def __init__(self):
        self._loaded = {}  # by the file, or by what else `load` takes

    def read(self, value, argument: str) -> NamedData:
        """Of a Data, a tensor or array, a pair (x, label), a dataset, what `data.load` takes, or a NamedData.

        Raises TypeError, ValueError or OSError that names the argument.
        """
        if isinstance(value, NamedData):
            return value
        if not (isinstance(value, str | Path | Data | Tensor | np.ndarray | tuple) or is_dataset(value)):
            also = "a model with sample(), " if argument == "model" else ""
            forms = f"{also}Data, a tensor, an array, a pair (x, label), a dataset or a path"
            raise TypeError(f"{argument} must be {forms}; got {type(value).__name__}")
        if not isinstance(value, str | Path):
            return NamedData("Data" if isinstance(value, Data) else "array", as_data(value, argument))
        try:
            return NamedData(Path(value).name, self._load(value))
        except (TypeError, ValueError, OSError) as error:
            raise type(error)(f"{argument}: {error}") from error

    def _load(self, path: str | Path) -> Data:
        key = path if is_named(path) else Path(path).resolve()
        if key not in self._loaded:
            data = load(path)
            kept = near(data.source, data.device, processes.world()[1])  # or a picture would be decoded at every look
            self._loaded[key] = data if kept is data.source else data.replace(x=kept)
        return self._loaded[key]
