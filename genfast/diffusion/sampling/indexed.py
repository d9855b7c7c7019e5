"""A step that finds everything by an index on the device, and moves that on itself: the same for every row of every
plan, so that it can be captured once."""

from collections.abc import Iterable

import torch
from torch import Tensor

from .rows import Row, Tables, rows_on_device
from .step import Step

ROWS, TERMS, ENTRIES = 1024, 4096, 2**24  # the least that there is room for, of entries in numbers


class IndexedStep:
    """A `Step` whose samples are each at a row of their own, in tensors that stay where they are.

    tables, entries: room for those of any plan of at most `len(tables.c_noise)` rows; see `load`.  place: (C,), where
    what is prepared for each sample begins.  index: (B,) int32, the row of each.
    """

    def __init__(self, step: Step, tables: Tables, entries: Tensor | None, place: Tensor | None):
        self.step, self.place = step, place
        (table, *columns), (rows, terms, many) = tables, rooms(tables, entries)
        table = type(table)(*(_grown(part, n) for part, n in zip(table, (rows, rows, terms, terms), strict=True)))
        self.tables = Tables(table, *(_grown(column, rows) for column in columns))
        self.entries = None if entries is None else _grown(entries, many)
        self.index = torch.zeros(len(step.x), dtype=torch.int32, device=step.x.device)

    def row(self) -> Row:
        return rows_on_device(self.tables, self.index, self.step.network.doubled, self.entries, self.place)

    def __call__(self, guided: bool) -> None:
        """A row for all samples, and on to the next."""
        row = self.row()
        self.step.advance(row, self.tables.step, *self.step.predict(row, guided))
        self.index.add_(1)

    def load(self, tables: Tables, entries: Tensor | None) -> None:
        """Other plans, and what is prepared for them."""
        copy_first(self.tables.step, tables.step)
        copy_first(self.tables[1:], tables[1:])
        if entries is not None:
            copy_first([self.entries], [entries])


def copy_first(to: Iterable[Tensor], new: Iterable[Tensor]) -> None:
    """Each tensor to the beginning of another."""
    for target, part in zip(to, new, strict=True):
        target[: len(part)].copy_(part)


def rooms(tables: Tables, entries: Tensor | None) -> tuple[int, int, int]:
    """For how many rows, terms of noise and entries there is to be room: powers of two, so that most plans fit."""
    count = 0 if entries is None else len(entries)
    least = 0 if entries is None else min(ROWS, ENTRIES // entries[0].numel())
    return _room(len(tables.c_noise), ROWS), _room(len(tables.step.streams), TERMS), _room(count, least)


def _room(n: int, least: int) -> int:
    return 1 << (max(n, least, 1) - 1).bit_length()


def _grown(part: Tensor, n: int) -> Tensor:
    """With zeros behind it, n rows in all."""
    return torch.cat([part, part.new_zeros(n - len(part), *part.shape[1:])])
