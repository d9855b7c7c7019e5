"""Where samples come from: a model, or samples that are there already. Nothing here holds what a model draws."""

import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..checkpoint import load as load_model
from ..common import processes
from ..common.indices import share
from ..data.dataset import Data, as_data, permutation
from ..data.files import load as load_data
from ..features import fingerprint

CHUNK = 64  # samples a call of model and extractor, always: their rounding may depend on it


class Held:
    """n of the samples of a Data, all by default; fewer are a subset by the seed, for files are often sorted.

    model: None, for there is none.  label: (n,) or None.
    """

    model = None

    def __init__(self, name: str, data: Data, n: int | None = None, seed: int = 0):
        if n is not None and n > len(data):
            raise ValueError(f"n: expected at most {len(data)}, the number of samples in {name}, got {n}")
        self.name, self.n, self.shape = name, len(data) if n is None else n, data.shape
        chosen = slice(None) if n is None else subset(len(data), n, seed)  # a slice copies nothing
        self.x, self.label = data.x[chosen], None if data.label is None else data.label[chosen]

    @property
    def fingerprint(self) -> str:
        """Of the samples."""
        return fingerprint({"x": self.x})

    def draw(self, index: Tensor) -> Tensor:
        """Samples `index`: (b, *) float32."""
        return self.x[index]


class Drawn:
    """n samples of a model, by `model.sample(index, seed=seed, **settings)`, which answers with the samples `index` of
    the endless run `seed`. A model whose `sample` takes a number only is asked once, for all; the first chunk tells.

    label: (n,), those of the data in a random order, again and again, if the model is class-conditional; or None.
    """

    def __init__(self, model, data: Data, n: int | None, seed: int, settings: dict):
        self.model, self.name, self.shape = model, type(model).__name__, data.shape
        self.n = len(data) if n is None else n
        self.label = None
        if conditional(model, data):
            order = torch.from_numpy(permutation(len(data), seed, 0))  # data are often sorted by class
            self.label = data.label[order[torch.arange(self.n) % len(data)]]
        self.settings = {"seed": seed, **settings}
        if "progress" in inspect.signature(model.sample).parameters:
            self.settings.setdefault("progress", False)  # there is one bar for all chunks
        self.by_index, self.whole = False, None  # whether it has taken indices; what one call gave

    @property
    def fingerprint(self) -> str | None:
        """Of the weights; None for a model without state_dict()."""
        return fingerprint(self.model.state_dict()) if hasattr(self.model, "state_dict") else None

    def draw(self, index: Tensor) -> Tensor:
        """Samples `index`: (b, *) float32."""
        if self.whole is None:
            try:
                x = self._sample(index, index)
                fits = len(x) == len(index)
            except Exception:
                if self.by_index:
                    raise
                fits = False  # it may take a number only; what else is wrong comes again
            if fits or self.by_index:
                self.by_index = True
                return self._checked(x, index)
            every = torch.arange(self.n)
            self.whole = self._checked(self._sample(self.n, every), every)
        return self.whole[index]

    @torch.no_grad()
    def _sample(self, n: int | Tensor, index: Tensor) -> Tensor:
        conditions = {} if self.label is None else {"label": self.label[index]}
        return torch.as_tensor(self.model.sample(n, **conditions, **self.settings)).detach().to(torch.float32)

    def _checked(self, x: Tensor, index: Tensor) -> Tensor:
        expected = (len(index), *self.shape)
        if x.shape != expected:
            raise ValueError(f"model: expected samples of shape {expected}, as those of data, got {tuple(x.shape)}")
        if not bool(x.isfinite().all()):
            raise ValueError(f"model: expected finite samples, got NaN or infinity from {self.name}.sample")
        return x


Source = Held | Drawn


def subset(total: int, n: int, seed: int, split: int = 0) -> Tensor:
    """n of 0 to total - 1 at random, at most all, ascending: (n,) int64. Splits are independent draws."""
    return torch.from_numpy(np.sort(permutation(total, seed, split)[:n]))


def outside(index: Tensor, total: int) -> Tensor:
    """Those of 0 to total - 1 that are not in index, ascending."""
    kept = torch.ones(total, dtype=torch.bool)
    kept[index] = False
    return kept.nonzero().flatten()


def conditional(model, data: Data) -> bool:
    """Whether the model is to be asked for labels: it knows classes, and the data have them."""
    return getattr(model, "classes", 0) > 0 and data.label is not None


def as_source(value, data: Data, *, n: int | None, seed: int, settings: dict | None) -> Source:
    """The source of n samples to be held against `data`.

    value: a model with `sample`, its checkpoint's folder, or what `read` takes.
    Raises TypeError or ValueError that names model, n or sampling.
    """
    if isinstance(value, str | Path) and (Path(value) / "model.json").exists():
        value = load_model(value)
    if callable(getattr(value, "sample", None)):
        return Drawn(value, data, n, seed, settings or {})
    if settings:
        raise ValueError(f"sampling: expected none, for these samples are drawn already, got {settings!r}")
    name, samples = read(value, "model")
    if samples.shape != data.shape:
        raise ValueError(f"model: expected samples of shape {data.shape}, as those of data, got {samples.shape}")
    return Held(name, relabeled(samples, data, "model"), n, seed)


def read(value, argument: str) -> tuple[str, Data]:
    """(name, Data) of a Data, a tensor or array, a pair (x, label), or what `data.load` takes: a file or a folder."""
    if isinstance(value, str | Path):
        try:
            return Path(value).name, load_data(value)
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


def relabeled(samples: Data, data: Data, argument: str) -> Data:
    """The samples with their classes numbered as those of the data, where both have names."""
    if samples.names is None or data.names is None or samples.names == data.names:
        return samples
    if unknown := [name for name in samples.names if name not in data.names]:
        raise ValueError(f"{argument}: expected classes among {', '.join(data.names)}, got {', '.join(unknown)}")
    number = torch.tensor([data.names.index(name) for name in samples.names])
    return Data(samples.x, number[samples.label], data.classes, samples.condition, data.names)


def described(data: Data) -> dict:
    """Shape, classes, and a fingerprint of the samples and labels in their order."""
    columns = {"x": data.x} | ({} if data.label is None else {"label": data.label})
    return {"shape": list(data.shape), "classes": data.classes, "fingerprint": fingerprint(columns)}


def device_of(model, data: Data) -> torch.device:
    """Where the weights of the model are; the data's, if it has none."""
    weights = model.parameters() if callable(getattr(model, "parameters", None)) else ()
    return next((p.device for p in weights), data.x.device)


def stream(
    source: Source, function: Callable[[Tensor], Tensor], *, device: torch.device, what: str, progress: bool
) -> Tensor:
    """f(x) of all samples, (n, D), on `device`, a chunk at a time, each process its share."""
    rank, ranks = processes.world()
    chunks = [index for index in share(source.n, CHUNK, rank, ranks).split(CHUNK) if len(index)]
    bar = tqdm(chunks, desc=what, unit="chunk", delay=1, leave=False, disable=None if progress else True)
    parts = [function(source.draw(index).to(device)).cpu() for index in bar]
    return torch.cat(processes.gather(parts)).to(device)
