"""A step that finds everything by an index on the device, and moves that on itself: the same for every row of every
plan, so that it can be captured once."""

from collections.abc import Iterable

import torch
from torch import Tensor

from .rows import Row, Tables, rows_on_device
from .step import Step

ROWS, TERMS, ENTRIES = 1024, 4096, 2**24  # the least that there is room for; of entries, in numbers


class IndexedStep:
    """A `Step` whose samples are each at a row of their own, in tensors that stay where they are.

    tables: room for those of other plans, see `load`.  entries, place: as in `Chunk`.  index: (B,) int32, the row of
    each sample.
    """

    def __init__(self, step: Step, tables: Tables, entries: Tensor | None, place: Tensor | None):
        self.step, self.entries, self.place = step, entries, place
        (table, *columns), (rows, terms, _) = tables, rooms(tables, None)
        table = type(table)(*(grown(part, n) for part, n in zip(table, (rows, rows, terms, terms), strict=True)))
        self.tables = Tables(table, *(grown(column, rows) for column in columns))
        self.index = torch.zeros(len(step.x), dtype=torch.int32, device=step.x.device)

    def row(self, guided: bool) -> Row:
        way, twice = self.step.way, guided and self.step.network.doubled
        return rows_on_device(self.tables, self.index, twice, way.denoised, self.entries, self.place)

    def predict(self, guided: bool) -> tuple[Tensor, Tensor | None]:
        """What the network makes of the row, which changes nothing."""
        return self.step.predict(self.row(guided), guided)

    def __call__(self, guided: bool) -> None:
        """A row for all samples, and on to the next."""
        row = self.row(guided)
        self.step.advance(row, self.tables.step, *self.step.predict(row, guided))
        self.index.add_(1)

    def fits(self, tables: Tables) -> bool:
        """Whether there is room for these."""
        table = self.tables.step
        return len(tables.c_noise) <= len(self.tables.c_noise) and len(tables.step.streams) <= len(table.streams)

    def load(self, tables: Tables) -> None:
        """The rows of other plans."""
        copy_first(self.tables.step, tables.step)
        copy_first(self.tables[1:], tables[1:])


def copy_first(to: Iterable[Tensor], new: Iterable[Tensor]) -> None:
    """Each tensor to the beginning of another."""
    for target, part in zip(to, new, strict=True):
        target[: len(part)].copy_(part)


def rooms(tables: Tables, entries: Tensor | None) -> tuple[int, int, int]:
    """For how many rows, terms of noise and entries there is to be room: powers of two, so that most plans fit."""
    many = 0 if entries is None else room(len(entries), min(ROWS, ENTRIES // entries[0].numel()))
    return room(len(tables.c_noise), ROWS), room(len(tables.step.streams), TERMS), many


def room(n: int, least: int) -> int:
    """A power of two, for n and more."""
    return 1 << (max(n, least, 1) - 1).bit_length()


def grown(part: Tensor, n: int) -> Tensor:
    """With zeros behind it, n rows in all."""
    return torch.cat([part, part.new_zeros(n - len(part), *part.shape[1:])])
