"""Data held in memory, and an order of it that can be recomputed anywhere.

Sample counter c = 0, 1, 2, ... of a run is row `order[c mod N]` of the data, where `order` is the permutation of epoch
`c // N`, a function of (seed, epoch, N) alone. So a batch is a function of (seed, c), whatever came before it.
"""

from collections.abc import Iterable, Mapping, Set

import numpy as np
import torch

from ..common.checks import as_tensor, holds_integers, require_integer, require_tensor
from ..common.keys import MAX_SEED
from ..common.orders import permutation


class Data:
    """Samples `x: (N, *)` float32 and, optionally, labels `label: (N,)` integers in [0, classes), -1 where unknown, and
    conditions `condition: (N, *)` float32, attributes or embeddings, NaN where one is missing.

    shape      shape of one sample, without N
    classes    number of classes; 0 without labels; by default as many as names, or one more than the largest label
    names      of the classes, a tuple of strings, or None
    levels     how many values an element of x has, -1 to 1 at equal distances; None where it is no such image
    x is floating-point of any width; condition any real numbers or bools, (N,) being (N, 1). What has the right type
    and is contiguous, images with channels last included, is shared; all else is copied once.
    Raises TypeError or ValueError for what is of another kind, masked or sparse, is empty, holds NaN or infinity, does
    not match, or would lose its spread in float32: numbers that vary little and lie far from 0.
    """

    def __init__(self, x, label=None, classes=None, condition=None, names=None, levels=None):
        self.x = _samples(x)
        self.condition = None if condition is None else _conditions(condition, len(self.x))
        self.shape = tuple(self.x.shape[1:])
        self.label = None if label is None else _labels(label, len(self.x))
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
        self.levels = None if levels is None else require_integer("levels", levels, 2)
        if levels is not None and not -1 <= float(self.x.min()) <= float(self.x.max()) <= 1:
            low, high = (f"{float(bound):g}" for bound in self.x.aminmax())
            raise ValueError(f"levels must be None for x beyond [-1, 1]; got {levels} and values from {low} to {high}")
        self._cached = (None, None, None)  # seed, epoch, its permutation

    def replace(self, **changes):
        """Data that differ in these arguments only."""
        names = ("x", "label", "classes", "condition", "names", "levels")
        return Data(**{name: getattr(self, name) for name in names} | changes)

    def __len__(self):
        return len(self.x)

    def __repr__(self):
        return f"Data({len(self)} samples of shape {self.shape}, {self.classes or 'no'} classes)"

    def batch(self, seed, first, size):
        """Samples first, ..., first + size - 1 of the run `seed`: a dict of x (size, *), label (size,) or None, and
        condition (size, *) or None."""
        seed, first, size = (
            require_integer(name, value, least, MAX_SEED)
            for name, value, least in (("seed", seed, 0), ("first", first, 0), ("size", size, 1))
        )
        epoch, position = np.divmod(np.arange(first, first + size), len(self))
        index = np.concatenate([self._order(seed, e)[position[epoch == e]] for e in range(epoch[0], epoch[-1] + 1)])
        return self.rows(torch.from_numpy(index))

    def rows(self, index):
        """The samples `index`, (size,): a dict as that of `batch`."""
        index = as_tensor("index", index)
        if index.ndim != 1 or not holds_integers(index):
            raise ValueError(f"index must be integers, one-dimensional; got {index.dtype} {tuple(index.shape)}")
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(self):
            raise ValueError(f"index must lie in [0, {len(self)}); got {int(index.min())} to {int(index.max())}")
        columns = {"x": self.x, "label": self.label, "condition": self.condition}
        return {name: None if value is None else value[index.to(value.device)] for name, value in columns.items()}

    def _order(self, seed, epoch):
        cached = self._cached  # read once: another thread may replace the tuple
        if cached[:2] != (seed, epoch):
            cached = self._cached = (seed, epoch, permutation(len(self), seed, epoch))
        return cached[2]


def arrays(x, label=None, classes=None, condition=None, names=None, levels=None):
    """Data from arrays or tensors: `x: (N, *)` floating-point, `label: (N,)` integers, `condition: (N, *)` or (N,)
    numbers, `names` of the classes, `levels` of an image; see `Data`."""
    return Data(x, label, classes, condition, names, levels)


def as_data(data, argument="data"):
    """Data from a Data, a tensor or array x, or a pair (x, label); an error names the argument."""
    if isinstance(data, Data):
        return data
    pair = data if isinstance(data, tuple) and len(data) == 2 else (data,)
    if not isinstance(pair[0], torch.Tensor | np.ndarray):
        kind = type(data).__name__
        raise TypeError(f"{argument} must be Data, a tensor, an array or a pair (x, label); got {kind}")
    try:
        return Data(*pair)
    except (TypeError, ValueError) as error:  # of x or label, which are parts of it
        raise type(error)(f"{argument}: {error}") from error


def _samples(x):
    x = require_tensor("x", x)
    if not x.is_floating_point():
        raise TypeError(f"x must hold floating-point samples; got {x.dtype}: scale images first, e.g. x / 127.5 - 1")
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(f"x must have at least one sample, of shape (N, *); got shape {tuple(x.shape)}")
    return _in_float32("x", x, torch.isfinite, "NaN or infinity")


def _labels(label, n):
    label = require_tensor("label", label)
    if not holds_integers(label):
        raise TypeError(f"label must hold integers; got {label.dtype}")
    if label.shape != (n,):
        raise ValueError(f"label must have shape ({n},), one per sample; got {tuple(label.shape)}")
    label = _signed("label", label).to(torch.int64).contiguous()
    if label.min() < -1:
        raise ValueError(f"label must hold values of at least -1, which is unknown; got {int(label.min())}")
    return label


def _conditions(condition, n):
    condition = require_tensor("condition", condition)
    if condition.is_complex():
        raise TypeError(f"condition must hold real numbers; got {condition.dtype}")
    if condition.ndim < 1 or len(condition) != n or condition.numel() == 0:
        raise ValueError(f"condition must have shape ({n}, *), one row per sample; got {tuple(condition.shape)}")
    condition = condition[:, None] if condition.ndim == 1 else condition
    return _in_float32("condition", condition, lambda rows: ~rows.isinf(), "infinity")


def as_names(names):
    """Names of classes as a tuple; TypeError for what is no sequence of strings, as a set, which has no order."""
    unordered = isinstance(names, str | Set | Mapping)
    given = tuple(names) if isinstance(names, Iterable) and not unordered and getattr(names, "ndim", 1) else None
    if given is None or not all(isinstance(name, str) for name in given):
        raise TypeError(f"names must be a sequence of strings; got {names!r}")
    names = tuple(map(str, given))  # no NumPy's, which JSON has no word for
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"names must be distinct; got more than one {', '.join(repeated)}")
    return names


def _in_float32(name, values, allowed, others):
    """values: (N, *) as float32 and contiguous, all of them `allowed`; an error calls the `others` by that name."""
    values = _signed(name, values.detach())
    held = _contiguous(values.to(torch.float32))
    if not (fine := allowed(held)).all():
        bad = (~fine).flatten(1).any(1).nonzero().flatten()
        overflow = bool(allowed(values[~fine].double()).any())
        got = "infinity in float32, which ends at 3.4e38," if overflow else others
        raise ValueError(f"{name} must hold finite values; got {got} in {len(bad)} samples, the first is {bad[0]}")
    if values.dtype in (torch.float64, torch.int32, torch.int64):
        _require_spread(name, values.flatten(1), held.flatten(1))
    return held


def _signed(name, values):
    """Wide unsigned integers, with which torch computes little, as int64; all else as it is."""
    if values.dtype not in (torch.uint16, torch.uint32, torch.uint64):
        return values
    numbers = values.to(torch.int64)
    if (numbers < 0).any():  # they have wrapped
        raise ValueError(f"{name} must hold values below 2^63; got a larger one")
    return numbers


def _contiguous(values):
    """The tensor itself, or a contiguous copy of one of other strides, which kernels do not take."""
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(values.ndim)
    return values if last and values.is_contiguous(memory_format=last) else values.contiguous()


def _require_spread(name, values, held):
    """ValueError if rounding `values: (N, D)` to `held` costs a feature more than a hundredth of its spread.

    A feature of float64 that varies by less than 2^-47 of its own size is held to be constant, and what varies in it to
    be rounding, unless all features are such; and so is one that varies by less than 2^-100 of the size of all.
    """
    given, whole, missing = values, not values.is_floating_point(), values.isnan()
    if missing.any():
        values = torch.where(missing, values.nanmean(0).nan_to_num(), values)
        held = torch.where(missing, values, held)
    size = torch.maximum(values.amax(0).double(), -values.amin(0).double())
    if whole:  # beyond 2^53 float64 holds their differences only
        values, held = (values - given[:1]).double(), held.double() - given[:1].double()
    spread = values.std(0, correction=0)
    rounding, negligible = 0.0 if whole else 2.0**-47 * size, 2.0**-100 * size.max()
    varies = (spread > rounding) & (spread > negligible)
    if not varies.any():
        varies = spread > negligible
    suspects = (varies & ((2.0**-24 * size).clamp(min=2.0**-150) > 0.01 * spread)).nonzero().flatten()  # half an ulp
    if not len(suspects):
        return
    error = (held[:, suspects].double() - values[:, suspects]).std(0, correction=0)
    lost = suspects[error > 0.01 * spread[suspects]]
    if len(lost):
        first = int(lost[0])
        near, by, tiny = float(given[:, first].double().nanmean()), float(spread[first]), bool(size[first] < 2.0**-100)
        remedy = f"subtract one of them, {name} - {name}[0]" if whole else f"subtract the mean, {name} - {name}.mean(0)"
        raise ValueError(
            f"{name} must vary by what float32 can hold; got {len(lost)} of {len(spread)} features that rounding would "
            f"change by more than a hundredth of their spread, the first, {first}, near {near:.9g} with a standard "
            f"deviation of {by:.2g}: {f'divide it by {by:.2g}' if tiny else remedy} first"
        )
