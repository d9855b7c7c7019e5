"""Datasets of others, as torch and Hugging Face have them: whatever has a length and answers for a position."""

import json
from collections.abc import Iterator, Mapping, Sequence, Set

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset, Subset
from tqdm import tqdm

from ..common.checks import holds_integers, is_integer, require_tensor
from ..common.warn import warn_user
from .layout import channels_last, of_8_bits
from .pixels import pixels_of
from .source import CPU, Source

PARTS = {  # what the parts of an item may be called, by the argument of Data
    "x": ("x", "image", "images", "img", "pixel_values"),
    "label": ("label", "labels", "y", "target", "fine_label"),
    "condition": ("condition",),
}
FEW = 8  # items that are looked at before it is said what all are


def is_dataset(value: object) -> bool:
    """Whether this may be a dataset: it has a length and positions, and no keys."""
    if isinstance(value, str | bytes | Mapping | Set | IterableDataset | Tensor | np.ndarray):
        return False
    return all(callable(getattr(type(value), name, None)) for name in ("__len__", "__getitem__"))


def columns_of(dataset: Sequence) -> dict:
    """The arguments of Data for a dataset: dataset[i], i = 0 to len(dataset) - 1, is x, (x, label) or a dict, with x
    under "x", "image", "images", "img" or "pixel_values", a label under "label", "labels", "y", "target" or
    "fine_label", and a condition under "condition". A UserWarning names what else there is.

    x: a tensor or array, floating-point or an image in uint8, or a picture of Pillow's, gray if the first ones are.
    Labels are those of a column, where the dataset has one that its first items agree with (`targets`, `labels`,
    dataset["label"]); else, as for conditions, all items are read, with a progress bar. Names are those of `classes`,
    or of the column's feature. An item is asked for again whenever it is needed: one that changes at random is taken,
    but then a run cannot be repeated.
    Raises TypeError or ValueError for what is no such dataset, and for items that differ in kind or shape.
    """
    source = Foreign(dataset)
    label = _known_labels(dataset, source) if "label" in source.parts else None
    wanted = [name for name in source.parts if name != "x" and not (name == "label" and label is not None)]
    columns = _read(source, wanted) | ({} if label is None else {"label": label})
    names = _names(dataset, source.parts["label"], int(columns["label"].max()) + 1) if "label" in columns else None
    return {"x": source, **columns, "names": names}


class Foreign(Source):
    """The samples of a dataset. parts: what its items call x, label and condition, as far as they have them; of a pair
    0 and 1, of x alone None."""

    keepable = False

    def __init__(self, dataset: Sequence):
        self.dataset, self.kind = dataset, _kind(dataset)
        if not len(dataset):
            raise ValueError(f"a dataset must have at least one sample; got an empty {self.kind}")
        self.parts = _parts(self.item(0))
        few = [self._stored(self.part(self.item(i), "x", i), i) for i in range(min(FEW, len(self)))]
        first = max(few, key=len) if isinstance(self.part(self.item(0), "x", 0), Image.Image) else few[0]
        self.shape, self.dtype = tuple(first.shape), first.dtype
        self.levels = 256 if first.dtype == torch.uint8 else None

    def __len__(self) -> int:
        return len(self.dataset)

    def stored(self, index: Tensor) -> Tensor:
        rows = torch.empty(len(index), *self.shape, dtype=self.dtype, device=CPU)
        for row, i in zip(rows, index.tolist()):
            x = self._stored(self.part(self.item(i), "x", i), i)
            gray_in_color = x.dtype == torch.uint8 and (len(x), self.shape[0]) == (1, 3)
            if x.dtype != self.dtype or (x.shape != self.shape and not (gray_in_color and x.ndim == 3)):
                got = f"{tuple(x.shape)}, {x.dtype}"
                raise ValueError(f"sample {i} must have shape {self.shape}, {self.dtype}, as the first; got {got}")
            row[:] = x
        return rows

    def identity(self) -> Iterator[bytes]:
        yield json.dumps([self.kind, len(self), self.shape, str(self.dtype)]).encode()
        once, again = (self.stored(self.spread()).numpy().tobytes() for _ in range(2))
        if once == again:
            yield once
        else:
            warn_user(
                f"data change at random: {self.kind} answers differently when asked again; no run can be repeated"
            )

    def item(self, i: int) -> object:
        """dataset[i]; ValueError that names it where that fails."""
        try:
            return self.dataset[i]
        except Exception as error:  # of a dataset of whatever kind
            raise ValueError(f"sample {i} of {self.kind} cannot be read: {type(error).__name__}: {error}") from error

    def part(self, item: object, name: str, i: int) -> object:
        """x, label or condition of item i."""
        key = self.parts[name]
        try:
            return item if key is None else item[key]
        except (LookupError, TypeError) as error:
            raise ValueError(f"sample {i} must have {name}, as the first; got {_kind(item)}") from error

    def _stored(self, x: object, i: int) -> Tensor:
        """x of item i as uint8 or float32."""
        layout = "chw" if isinstance(x, Image.Image) else None
        if isinstance(x, Image.Image):
            x = _picture(x, i)
        elif not isinstance(x, Tensor | np.ndarray) or x.ndim == 0:
            raise TypeError(
                f"data must have tensors, arrays or pictures as samples; got {_kind(x)} as sample {i} of {self.kind}"
            )
        if isinstance(x, np.ndarray) and not x.flags.writeable:  # which torch warns of
            x = x.copy()
        x = require_tensor(f"sample {i}", x).detach().cpu()
        if x.dtype == torch.uint8 and x.ndim in (2, 3):
            return of_8_bits(x[None], channels_last(x[None], layout))[0]
        if not x.is_floating_point():
            raise TypeError(f"data must have floating-point samples, or images in uint8; got {x.dtype} as sample {i}")
        channels_last(x[None], layout)  # raises for floats that look so
        x = x.float()
        if not x.isfinite().all():
            raise ValueError(f"x must hold finite values; got NaN or infinity in sample {i}")
        return x


def _picture(image: Image.Image, i: int) -> np.ndarray:
    """uint8 (C, H, W), or float32 of one of 16 bits."""
    try:
        pixels = pixels_of(image)
    except Exception as error:  # Pillow reads a file when it is asked for pixels
        raise ValueError(f"sample {i} cannot be read: {error}") from error
    return pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32) / np.float32(32767.5) - 1


def _parts(item: object) -> dict:
    """Where an item has x, label and condition. Raises TypeError for one that has no x, or several."""
    if isinstance(item, Mapping):
        found = {name: [key for key in keys if key in item] for name, keys in PARTS.items()}
        if len(found["x"]) != 1 or any(len(keys) > 1 for keys in found.values()):
            wanted, got = ", ".join(PARTS["x"]), ", ".join(map(str, item))
            raise TypeError(f"data must have one of {wanted} in a sample, and one label at most; got {got}")
        parts = {name: keys[0] for name, keys in found.items() if keys}
        if others := [str(key) for key in item if key not in parts.values()]:
            warn_user(f"data have more in a sample, which is passed over: {', '.join(others)}")
        return parts
    if isinstance(item, tuple | list):
        if len(item) != 2:
            raise TypeError(f"data must have x, (x, label) or a dict as samples; got {len(item)} parts in one")
        return {"x": 0, "label": 1}
    return {"x": None}


def _known_labels(dataset: Sequence, source: Foreign) -> Tensor | None:
    """The labels of a dataset that has them in a column, which its first items agree with; else None."""
    column = _column(dataset, source.parts["label"])
    few = range(min(FEW, len(source)))
    if column is None or column.shape != (len(source),) or not holds_integers(column):
        return None
    return column if all(_label(source.part(source.item(i), "label", i), i) == int(column[i]) for i in few) else None


def _column(dataset: Sequence, name: str | int) -> Tensor | None:
    if isinstance(dataset, Subset):
        column = _column(dataset.dataset, name)
        return None if column is None else column[torch.as_tensor(dataset.indices, device=CPU)]
    if name in (getattr(dataset, "column_names", None) or ()):
        found = dataset[name]
    else:
        found = getattr(dataset, "targets", getattr(dataset, "labels", None))
    try:
        return None if found is None else torch.as_tensor(np.asarray(found), device=CPU)
    except (TypeError, ValueError):  # names of classes, lists of uneven length
        return None


def _read(source: Foreign, names: list[str]) -> dict[str, Tensor]:
    """These parts of all items, read one after the other."""
    columns, wide = {name: [] for name in names}, {"dtype": torch.float64, "device": CPU}
    bar = tqdm(range(len(source)), desc=" and ".join(names), unit="sample", delay=1, leave=False, disable=None)
    for i in bar if names else ():
        item = source.item(i)
        for name, values in columns.items():
            part = source.part(item, name, i)
            values.append(_label(part, i) if name == "label" else torch.as_tensor(part, **wide))
    return {name: torch.stack(v) if name == "condition" else torch.tensor(v, device=CPU) for name, v in columns.items()}


def _label(value: object, i: int) -> int:
    if not is_integer(value):
        raise TypeError(f"data must have integers as labels; got {_kind(value)} in sample {i}")
    return int(value)


def _names(dataset: Sequence, label: str | int, classes: int) -> tuple[str, ...] | None:
    """Names of the classes, if the dataset says so many or more."""
    if isinstance(dataset, Subset):
        return _names(dataset.dataset, label, classes)
    features = getattr(dataset, "features", None)
    feature = features.get(label) if isinstance(features, Mapping) else None
    names = getattr(dataset, "classes", None) if feature is None else getattr(feature, "names", None)
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names) if len({*names}) == len(names) >= classes else None


def _kind(value: object) -> str:
    return type(value).__name__
