"""Where samples come from: a model, or samples that are there already."""

import inspect
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoint import MODELS, load
from ..common.checks import as_tensor
from ..common.conditions import require_classes, takes
from ..common.indices import as_chunk
from ..data.dataset import Data, permutation
from ..data.matching import in_units, matched, told
from ..features import fingerprint
from .model_traits import as_told, device_of
from .ranges import Seen
from .reading import Reader
from .splits import subset


class Held:
    """n of the samples of a Data, all by default; fewer are a subset by the seed, for files are often sorted.

    model, told: None, for there is none.  label: (n,) or None.  seen: their range, beside that of `other` data.
    """

    model = told = None

    def __init__(self, name: str, data: Data, n: int | None = None, seed: int = 0, other: Data | None = None):
        if n is not None and n > len(data):
            raise ValueError(f"n must be at most {len(data)}, the number of samples in {name}; got {n}")
        self.name, self.n, self.shape = name, len(data) if n is None else n, data.shape
        self.data, self.seed = data, seed
        self.chosen = torch.arange(self.n, device="cpu") if n is None else subset(len(data), n, seed)
        self.label = None if data.label is None else data.label[self.chosen.to(data.label.device)]
        self.seen, self.stated = None if other is None else Seen(other.glance()), {}

    @property
    def fingerprint(self) -> str:
        """Of the data, and of which samples of them."""
        return fingerprint({}, data=self.data.fingerprint(), n=self.n, seed=self.seed)

    def draw(self, index: Tensor) -> Tensor:
        """Samples `index`: (b, *) float32."""
        x = self.data.rows(self.chosen[index])["x"]
        if self.seen is not None:
            self.seen.add(x)
        return x


class Drawn:
    """n samples of a model, by `model.sample(index, seed=seed, **settings)`, which answers with the samples `index` of
    the endless run `seed`. A model whose `sample` takes a number only is asked once, for all; the first chunk tells.

    told: the data as the model is told of them; their labels and conditions go with the samples in a random order,
    again and again.  label: (n,), those of the samples as the data number them, or None.  seen: their range.  stated:
    the settings, and the chunk that follows from them.
    """

    def __init__(self, model, data: Data, n: int | None, seed: int, settings: dict):
        self.model, self.name, self.shape = model, type(model).__name__, data.shape
        self.n = len(data) if n is None else n
        self.told, self.seen = as_told(data, model, settings), Seen(data.glance())
        order = torch.from_numpy(permutation(len(data), seed, 0))  # data are often sorted by class
        self.rows = order[torch.arange(self.n, device="cpu") % len(data)]
        labeled = self.told.label is not None and "label" not in settings
        self.label = data.label[self.rows.to(data.label.device)] if labeled else None
        if unknown := [name for name in settings if not takes(model.sample, name)]:
            raise ValueError(f"sampling must have settings of {self.name}.sample; got {', '.join(unknown)}")
        arguments = inspect.signature(model.sample).parameters
        if isinstance(model, tuple(MODELS.values())) and "chunk" in arguments and settings.get("chunk") is None:
            settings = settings | {"chunk": as_chunk(None, data.shape, device_of(model, data))}
        self.stated = settings
        self.settings = {"seed": seed, **settings}
        if "progress" in arguments:
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
            every = torch.arange(self.n, device="cpu")
            self.whole = self._checked(self._sample(self.n, every), every)
        return self.whole[index]

    @torch.no_grad()
    def _sample(self, n: int | Tensor, index: Tensor) -> Tensor:
        x = self.model.sample(n, **told(self.told, self.rows[index]) | self.settings)
        try:
            return as_tensor("samples", x).detach()
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(
                f"model must draw a tensor or an array; got {type(x).__name__}, {self.name}.sample"
            ) from None

    def _checked(self, x: Tensor, index: Tensor) -> Tensor:
        expected = (len(index), *self.shape)
        if x.shape != expected:
            raise ValueError(f"model must draw samples of shape {expected}, as data has; got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise TypeError(
                f"model must draw floating-point samples, scaled as the data are, e.g. x / 127.5 - 1; got {x.dtype} "
                f"from {self.name}.sample"
            )
        x = x.to(torch.float32)
        if not bool(x.isfinite().all()):
            raise ValueError(f"model must draw finite samples; got NaN or infinity from {self.name}.sample")
        self.seen.add(x)
        return x


Source = Held | Drawn


def opened(value):
    """The model of a checkpoint's folder; anything else as it is."""
    is_checkpoint = isinstance(value, str | Path) and (Path(value) / "model.json").exists()
    return load(value) if is_checkpoint else value


def comparable(data: Data, value) -> Data:
    """The data in the units of samples: in their own, unless a model draws that knows of no `units`."""
    draws = callable(getattr(value, "sample", None))
    return data if draws and not hasattr(value, "units") else in_units(data, None)


def as_source(value, data: Data, reader: Reader, *, n: int | None, seed: int, settings: dict | None) -> Source:
    """The source of n samples to be held against `data`.

    value: a model with `sample`, or what the reader takes.
    Raises TypeError or ValueError that names model, n or sampling.
    """
    if callable(getattr(value, "sample", None)):
        return Drawn(value, data, n, seed, settings or {})
    if settings:
        raise ValueError(f"sampling must be empty, for these samples are drawn already; got {settings!r}")
    samples = reader.read(value, "model")
    held = matched(in_units(samples.data, data.units), data, "model")
    if held.label is not None and data.label is not None:
        require_classes(held.label, data.classes, null=True)
    return Held(samples.name, held, n, seed, other=data)
