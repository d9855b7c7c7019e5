"""Where samples come from: memory, or what is read as it is asked for."""

import json
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..common.checks import require_tensor
from ..common.memory import require_room
from .columns import as_samples
from .layout import channels_last, of_8_bits, shape_of_8_bits
from .pages import Pages

CPU = torch.device("cpu")
SPREAD = 64  # samples that are looked at where not all are
PART = 2**24  # bytes that are copied and hashed at once
ROOM = 2**28  # bytes below which nobody asks whether there is room


class Source:
    """N samples of one shape, which are read as they are asked for. Subclasses have

    shape      of a sample
    levels     how many values an element has, -1 to 1 at equal distances; None where it is no such image
    dtype      of `stored`: uint8 where these are 8-bit images, else float32
    stored(index)  the samples `index`, int64 on the CPU: (n, *shape). Raises ValueError that names what is not finite,
               or cannot be read
    identity() what tells these samples from others: bytes
    """

    shape: tuple[int, ...]
    levels: int | None = None
    dtype: torch.dtype = torch.float32
    device = CPU  # where `stored` answers
    in_memory = False  # whether all is there, and nothing is read
    decoded = False  # whether reading takes so long that it is worth to keep what was read
    keepable = True  # whether that may be kept, for it is always the same

    def __len__(self) -> int:
        raise NotImplementedError

    def stored(self, index: Tensor) -> Tensor:
        raise NotImplementedError

    def identity(self) -> Iterator[bytes]:
        raise NotImplementedError

    def rows(self, index: Tensor) -> Tensor:
        """The samples `index`: (n, *shape) float32. Raises ValueError, with the size, where there is no room."""
        self._require_room(len(index))
        return as_float(self.stored(index))

    def all_rows(self) -> Tensor:
        """All samples: (N, *shape) float32. Raises as `rows` does."""
        self._require_room(len(self))
        return self.rows(torch.arange(len(self), device=CPU))

    def glance(self) -> Tensor:
        """Some samples, spread evenly, first and last among them: (n, *shape) float32. In memory, all of them."""
        return self.rows(self.spread())

    def _require_room(self, n: int) -> None:
        size = 4 * n * math.prod(self.shape)
        if size > ROOM:
            require_room("x", size, self.device)

    def spread(self) -> Tensor:
        """Positions of some samples, int64."""
        return torch.linspace(0, len(self) - 1, min(len(self), SPREAD), dtype=torch.float64, device=CPU).long()


class InMemory(Source):
    """Samples x: (N, *) float32, or images (N, C, H, W) uint8, which are pixel / 127.5 - 1; on any device."""

    in_memory = True

    def __init__(self, x: Tensor):
        self.x, self.shape, self.dtype, self.device = x, tuple(x.shape[1:]), x.dtype, x.device
        self.levels = 256 if x.dtype == torch.uint8 else None

    def __len__(self) -> int:
        return len(self.x)

    def stored(self, index: Tensor) -> Tensor:
        return self.x[index.to(self.device)]

    def identity(self) -> Iterator[bytes]:
        return column_bytes(self.x)

    def glance(self) -> Tensor:
        return self.x if self.x.is_floating_point() else super().glance()


class Mapped(Source):
    """Samples x: (N, *) floating-point, or images in uint8, of a memory map: what is asked for is read. Floats become
    float32 then, and what is not finite is an error that names the sample."""

    def __init__(self, x: np.memmap, layout: str | None = None):
        if x.ndim < 2 or x.size == 0:
            raise ValueError(f"x must have at least one sample, of shape (N, *); got shape {x.shape}")
        whole = x.dtype == np.uint8 and x.ndim in (3, 4)
        self.pages = Pages(x)
        self.x, self.last = x, channels_last(require_tensor("x", x[:1].copy()), layout)
        if whole:
            self.shape, self.dtype, self.levels = shape_of_8_bits(x.shape[1:], self.last), torch.uint8, 256
        else:
            as_samples(self._read(self.spread()))
            self.shape = (x.shape[3], *x.shape[1:3]) if self.last else x.shape[1:]

    def __len__(self) -> int:
        return len(self.x)

    def stored(self, index: Tensor) -> Tensor:
        found = self._read(index)
        if self.dtype == torch.uint8:
            return of_8_bits(found, self.last)
        held = (found.movedim(3, 1) if self.last else found).to(torch.float32).contiguous()
        if not (fine := held.isfinite()).all():
            first = int(index[~fine.flatten(1).all(1)][0])
            raise ValueError(f"x must hold finite values, in float32; got NaN or infinity in sample {first}")
        return held

    def identity(self) -> Iterator[bytes]:
        yield json.dumps([str(self.x.dtype), self.x.shape, self.shape]).encode()
        yield self._read(self.spread()).numpy().tobytes()

    def _read(self, index: Tensor) -> Tensor:
        self.pages.want(index)
        return require_tensor("x", np.ascontiguousarray(self.x[index.numpy()]))


def as_source(x, layout: str | None = None) -> Source:
    """A source of samples x: one as it is, a tensor, array or memory map (N, *) floating-point, or images in uint8.
    layout: where images have their channels, see `layout.channels_last`."""
    if isinstance(x, Source):
        if layout is not None:
            raise ValueError(f"layout must be None for a source, which knows its own; got {layout!r}")
        return x
    if isinstance(x, np.memmap):
        return Mapped(x, layout)
    x = require_tensor("x", x)
    last = bool(x.ndim) and channels_last(x, layout)
    if x.dtype != torch.uint8 or x.ndim not in (3, 4):
        return InMemory(as_samples(x.movedim(3, 1) if last else x))
    if not x.numel():
        raise ValueError(f"x must have at least one sample; got shape {tuple(x.shape)}")
    return InMemory(of_8_bits(x, last))


def as_float(stored: Tensor) -> Tensor:
    """float32 of what a source stores: pixels in [-1, 1], pixel / 127.5 - 1, with the same bits on every device."""
    if stored.dtype != torch.uint8:
        return stored
    # A number of Python's would be a multiplication by its reciprocal on a GPU.
    return stored.float().div_(torch.full((), 127.5, device=stored.device)).sub_(1)


def column_bytes(column: Tensor) -> Iterator[bytes | memoryview]:
    """Dtype, shape and all bytes of a tensor, in the order of its rows, whatever its device and strides."""
    yield json.dumps([str(column.dtype), list(column.shape)]).encode()
    rows = max(1, PART // max(1, column[:1].numel() * column.element_size()))
    for part in column.detach().split(rows):
        yield part.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
