"""Data held in memory, and an order of it that can be recomputed anywhere.

Sample counter c = 0, 1, 2, ... of a run is row `order[c mod N]` of the data, where `order` is the permutation of epoch
`c // N`, a function of (seed, epoch, N) alone. So a batch is a function of (seed, c), whatever came before it.
"""

import numpy as np
import torch

from ..common.checks import holds_integers, require_integer, require_integers
from ..common.keys import MAX_SEED


def permutation(n, seed, epoch):
    """The order of epoch `epoch`: int64 array (n,), a permutation of 0..n-1.

    Ranks n 64-bit words of the Philox stream with key (seed, epoch). NumPy keeps the words of a bit generator fixed
    for ever, which it does not promise for `Generator.permutation`; a run must resume under another version.
    """
    n, seed, epoch = require_integers(0, n=n, seed=seed, epoch=epoch)
    words = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64)).random_raw(n)
    return np.argsort(words, kind="stable")


class Data:
    """Samples `x: (N, *)` float32 and, optionally, labels `label: (N,)` integers in [0, classes), or -1, and conditions
    `condition: (N, *)` floating-point, attributes or embeddings, NaN where one is missing.

    shape      shape of one sample, without N
    classes    number of classes; 0 without labels; by default one more than the largest label
    names      of the classes, or None
    Arrays that already have the right type are shared, not copied.
    Raises TypeError or ValueError for what is not floating-point, is empty, holds NaN or infinity, or does not match.
    """

    def __init__(self, x, label=None, classes=None, condition=None, names=None):
        self.x = _samples(x)
        self.condition = None if condition is None else _conditions(condition, len(self.x))
        self.shape = tuple(self.x.shape[1:])
        self.label = None if label is None else _labels(label, len(self.x))
        found = 0 if label is None else int(self.label.max()) + 1
        self.classes = found if classes is None else require_integer("classes", classes, found)
        if label is None and self.classes:
            raise ValueError(f"classes must be 0 without labels; got {classes!r}")
        self.names = None if names is None else tuple(names)
        if self.names is not None and len(self.names) != self.classes:
            raise ValueError(f"names must be {self.classes}, one a class; got {len(self.names)}")
        self._cached = (None, None, None)  # seed, epoch, its permutation

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
        index, columns = torch.from_numpy(index), {"x": self.x, "label": self.label, "condition": self.condition}
        return {name: None if value is None else value[index.to(value.device)] for name, value in columns.items()}

    def _order(self, seed, epoch):
        cached = self._cached  # read once: another thread may replace the tuple
        if cached[:2] != (seed, epoch):
            cached = self._cached = (seed, epoch, permutation(len(self), seed, epoch))
        return cached[2]


def arrays(x, label=None, classes=None, condition=None):
    """Data from arrays or tensors: `x: (N, *)` and `condition: (N, *)` floating-point, `label: (N,)` integers."""
    return Data(x, label, classes, condition)


def as_data(data):
    """Data from a Data, a tensor or array x, or a pair (x, label)."""
    if isinstance(data, Data):
        return data
    if isinstance(data, torch.Tensor | np.ndarray):
        return Data(data)
    if isinstance(data, tuple) and len(data) == 2:
        return Data(*data)
    raise TypeError(f"data must be Data, a tensor, an array or a pair (x, label); got {type(data).__name__}")


def _samples(x):
    if not isinstance(x, torch.Tensor | np.ndarray):
        raise TypeError(f"x must be a tensor or an array; got {type(x).__name__}")
    x = torch.as_tensor(x)
    if not x.is_floating_point():
        raise TypeError(f"x must hold floating-point samples; got {x.dtype}: scale images first, e.g. x / 127.5 - 1")
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(f"x must have at least one sample, of shape (N, *); got shape {tuple(x.shape)}")
    x = x.detach().to(torch.float32)
    if not (finite := torch.isfinite(x)).all():
        bad = (~finite).flatten(1).any(1).nonzero().flatten()
        raise ValueError(f"x must hold finite values; got NaN or infinity in {len(bad)} samples, the first is {bad[0]}")
    return x


def _labels(label, n):
    if not isinstance(label, torch.Tensor | np.ndarray):
        raise TypeError(f"label must be a tensor or an array; got {type(label).__name__}")
    label = torch.as_tensor(label)
    if not holds_integers(label):
        raise TypeError(f"label must hold integers; got {label.dtype}")
    if label.shape != (n,):
        raise ValueError(f"label must have shape ({n},), one per sample; got {tuple(label.shape)}")
    label = label.to(torch.int64)
    if label.min() < -1:
        raise ValueError(f"label must hold values of at least -1, which is unknown; got {int(label.min())}")
    return label


def _conditions(condition, n):
    if not isinstance(condition, torch.Tensor | np.ndarray):
        raise TypeError(f"condition must be a tensor or an array; got {type(condition).__name__}")
    condition = torch.as_tensor(condition)
    if not condition.is_floating_point():
        raise TypeError(f"condition must hold floating-point numbers; got {condition.dtype}")
    if condition.ndim < 2 or len(condition) != n:
        raise ValueError(f"condition must have shape ({n}, *), one row per sample; got {tuple(condition.shape)}")
    return condition.detach().to(torch.float32)
