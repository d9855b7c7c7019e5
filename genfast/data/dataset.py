"""Data, and an order of them that can be recomputed anywhere.

Sample counter c = 0, 1, 2, ... of a run is row `order[c mod N]` of the data, where `order` is the permutation of epoch
`c // N`, a function of (seed, epoch, N) alone. So a batch is a function of (seed, c), whatever came before it.
"""

import functools
import hashlib
import itertools

import numpy as np
import torch

from ..common.checks import as_tensor, holds_integers, require_integer, require_names
from ..common.keys import MAX_SEED
from ..common.orders import permutation
from ..common.units import as_units
from .columns import as_conditions, as_labels, as_names
from .foreign import columns_of, is_dataset
from .source import as_float, as_source, column_bytes
from .transforms import Augment
from .units import measured


class Data:
    """Samples `x: (N, *)` float32 and, optionally, labels `label: (N,)` integers in [0, classes), -1 where unknown, and
    conditions `condition: (N, *)` float32, attributes or embeddings, NaN where one is missing.

    x          floating-point of any width; images in uint8, (N, H, W), (N, C, H, W) or (N, H, W, C) with 1, 3 or 4
               channels C, kept so and seen as pixel / 127.5 - 1, where the 4th is alpha, which is laid on white; or a
               `Source`, which reads what it is asked for. (N, H, W, C) of floats: see `arrays`
    condition  any real numbers or bools, (N,) being (N, 1). What has the right type and is contiguous, images with
               channels last included, is shared; all else is copied once
    shape      shape of one sample, without N
    classes    number of classes; 0 without labels; by default as many as names, or one more than the largest label
    names      of the classes, a tuple of strings, or None
    levels     how many values an element of x has, -1 to 1 at equal distances; None where it is no such image. By
               default what the source says: 256 of uint8
    augment    how `batch` changes samples: augment(x, seed, counter), and `centered`, for all who look at them
    columns    names of the features, a tuple of strings, or None
    units      mean and sd, by which `x`, `rows` and `batch` are standardized
    Raises TypeError or ValueError for what is of another kind, masked or sparse, is empty, holds NaN or infinity, does
    not match, or would lose its spread in float32: numbers that vary little and lie far from 0. What is not in memory
    is looked at when it is read.
    """

    def __init__(
        self, x, label=None, classes=None, condition=None, names=None, levels=None, *, columns=None, augment=None,
        units=None,
    ):  # fmt: skip
        self.source = as_source(x)
        self.augment, self.units = augment, as_units(units)
        self.condition = None if condition is None else as_conditions(condition, len(self))
        self.shape = tuple(self.source.shape if augment is None else augment.shape(self.source.shape))
        if self.units is not None:
            self.units.require(self.shape)
        self.columns = None if columns is None else require_names("columns", columns)
        if columns is not None and (len(self.columns),) != self.shape:
            raise ValueError(f"columns must be names of the features of {self.shape}; got {len(self.columns)} of them")
        self.label = None if label is None else as_labels(label, len(self))
        self.names = None if names is None else as_names(names)
        found = 0 if label is None else int(self.label.max()) + 1
        if classes is None:
            self.classes = found if names is None else len(self.names)
        else:
            self.classes = require_integer("classes", classes, found)
        if label is None and (self.classes or names is not None):
            argument, given = ("classes must be 0", classes) if names is None else ("names must be None", names)
            raise ValueError(f"{argument} without labels; got {given!r}")
        if names is not None and not found <= self.classes == len(self.names):
            wanted = max(found, self.classes)
            raise ValueError(f"names must be {wanted}, one a class; got {len(self.names)}")
        self.levels = self.source.levels if levels is None else require_integer("levels", levels, 2)
        if self.levels is not None and self.source.dtype != torch.uint8:
            _require_scale(self.levels, self.source.glance())
        self._cached = (None, None, None)  # seed, epoch, its permutation

    def replace(self, **changes):
        """Data that differ in these arguments only."""
        names = ("label", "classes", "condition", "names", "levels", "columns", "augment", "units")
        return Data(**{"x": self.source} | {name: getattr(self, name) for name in names} | changes)

    def augmented(self, flip=True, crop=None):
        """These images, flipped from right to left with probability 1/2, and cut at random to crop = (height, width),
        where a batch of a training is made of them: a function of (seed, sample counter). Whoever looks at rows, x or
        shape, as `evaluate` does, sees the middle of that size, never flipped. Equation and errors: `Augment`."""
        return self.replace(augment=Augment(flip, crop))

    def standardized(self):
        """These data as (x - mean) / sd, of each feature of vectors, or each channel, the first axis, of all else. A
        model that is trained on them keeps mean and sd, and answers in the units of these data: see `Units`. What is
        constant keeps its scale, and is named in a UserWarning."""
        return self.replace(units=measured(self))

    def __len__(self):
        return len(self.source)

    def __repr__(self):
        return f"Data({len(self)} samples of shape {self.shape}, {self.classes or 'no'} classes)"

    @functools.cached_property
    def x(self):
        """All samples as `rows` has them, (N, *) float32: as they were given, where they are in memory as such. Else
        they are read at once, and kept. Raises ValueError, with the size, where there is no room."""
        plain = self.source.in_memory and self.augment is self.units is None
        if plain and self.source.dtype == torch.float32:
            return self.source.x
        return self._finished(self.source.all_rows())

    @property
    def device(self):
        """Where the samples are, or are read to."""
        return self.source.device

    def batch(self, seed, first, size):
        """Samples first, ..., first + size - 1 of the run `seed`: a dict of x (size, *), augmented by `augment`, label
        (size,) or None, and condition (size, *) or None."""
        index = self.order(seed, first, size)
        return self.made(self.source.stored(index), index, seed, first)

    def order(self, seed, first, size):
        """Positions of these samples in the data: int64 (size,)."""
        seed, first, size = (
            require_integer(name, value, least, MAX_SEED)
            for name, value, least in (("seed", seed, 0), ("first", first, 0), ("size", size, 1))
        )
        epoch, position = np.divmod(np.arange(first, first + size), len(self))
        index = np.concatenate([self._order(seed, e)[position[epoch == e]] for e in range(epoch[0], epoch[-1] + 1)])
        return torch.from_numpy(index)

    def made(self, stored, index, seed, first):
        """The batch of samples `index`, which begins with number `first` of the run `seed`, from what the source stores
        of them, wherever that is now."""
        x = as_float(stored)
        if self.augment is not None:
            x = self.augment(x, seed, torch.arange(first, first + len(index), device=x.device))
        return {"x": x if self.units is None else self.units.standardized(x), **self._columns(index)}

    def rows(self, index):
        """The samples `index`, (size,): a dict as that of `batch`, of samples that `augment` has centered only."""
        index = as_tensor("index", index)
        if index.ndim != 1 or not holds_integers(index):
            raise ValueError(f"index must be integers, one-dimensional; got {index.dtype} {tuple(index.shape)}")
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(self):
            raise ValueError(f"index must lie in [0, {len(self)}); got {int(index.min())} to {int(index.max())}")
        index = index.long()
        return {"x": self._finished(self.source.rows(index)), **self._columns(index)}

    def glance(self):
        """Some samples as `rows` has them, spread evenly over the data, (n, *): all of those in memory."""
        return self._finished(self.source.glance())

    def fingerprint(self):
        """Number, shape, classes and names of the samples, what is done to them, and the sha256 of all bytes of what is
        in memory, whatever its device and strides: 1.2 GB a second of one core (AMD EPYC), so half a second for
        CIFAR-10 in float32. Of what is read as it is asked for: names and sizes of files, and the bytes of 64 samples
        that are spread evenly, so that what differs elsewhere only is taken for the same."""
        sha256 = hashlib.sha256()
        parts = [column_bytes(column) for column in (self.label, self.condition) if column is not None]
        for part in itertools.chain(self.source.identity(), *parts):
            sha256.update(part)
        names = None if self.names is None else list(self.names)
        said = {"samples": len(self), "shape": list(self.shape), "classes": self.classes, "names": names}
        done = {"augment": self.augment, "units": self.units}
        said |= {name: value.described() for name, value in done.items() if value is not None}
        return said | {"levels": self.levels, "sha256": sha256.hexdigest()}

    def _finished(self, x):
        x = x if self.augment is None else self.augment.centered(x)
        return x if self.units is None else self.units.standardized(x)

    def _columns(self, index):
        columns = {"label": self.label, "condition": self.condition}
        return {name: None if value is None else value[index.to(value.device)] for name, value in columns.items()}

    def _order(self, seed, epoch):
        cached = self._cached  # read once: another thread may replace the tuple
        if cached[:2] != (seed, epoch):
            cached = self._cached = (seed, epoch, permutation(len(self), seed, epoch))
        return cached[2]


def _require_scale(levels, x):
    low, high = (float(bound) for bound in x.aminmax())
    if not -1 <= low <= high <= 1:
        raise ValueError(f"levels must be None for x beyond [-1, 1]; got {levels} and values from {low:g} to {high:g}")


def arrays(x, label=None, classes=None, condition=None, names=None, levels=None, *, layout=None):
    """Data from arrays or tensors: `x: (N, *)` floating-point, or images in uint8, `label: (N,)` integers,
    `condition: (N, *)` or (N,) numbers, `names` of the classes, `levels` of an image; see `Data`.

    layout: "chw" or "hwc", where images have their channels; None where uint8 images show it, by 1, 3 or 4 channels on
    one side only. A ValueError asks for it where they do not, and of floats that look like "hwc"."""
    return Data(as_source(x, layout), label, classes, condition, names, levels)


def as_data(data, argument="data"):
    """Data from a Data, a tensor or array x, a pair (x, label), or a dataset, see `foreign.columns_of`; an error names
    the argument."""
    if isinstance(data, Data):
        return data
    pair = data if isinstance(data, tuple) and len(data) == 2 else (data,)
    plain = isinstance(pair[0], torch.Tensor | np.ndarray)
    if not plain and not is_dataset(data):
        kind = type(data).__name__
        forms = "Data, a tensor, an array, a pair (x, label), or a dataset with a length and positions"
        raise TypeError(f"{argument} must be {forms}; got {kind}")
    try:
        return Data(*pair) if plain else Data(**columns_of(data))
    except (TypeError, ValueError) as error:  # of x or label, which are parts of it
        raise type(error)(f"{argument}: {error}") from error
