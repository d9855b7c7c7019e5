"""What a network can say of a plan before it runs."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...common.checks import holds_integers
from ...common.eval_mode import evaluating
from ..process.denoisers import Network


class Prepared:
    """What a network with a `prepare` method knows of a plan beforehand: everything that depends on time and label only
    (embeddings, modulations), once for every row and label instead of at every step of every chunk.

    Such a network says `prepares = True`; `net.prepare(t, label=...)` answers (R, *) for times t (R,) and labels (R,),
    and `net(y, t, prepared=...)` takes (B, *) of that. A table is made of one label at a time, always in calls of 64
    rows, so that the rounding of the network's products is the same whatever else is asked for.
    """

    ROWS = 64

    def __init__(self, net: Callable, times: Tensor):
        self.net, self.times, self.tables = net, Network(net).time(times), {}
        self.joined = None, None  # the labels asked for last, and their entries

    @staticmethod
    def fits(net: Callable, conditions: set[str]) -> bool:
        return getattr(net, "prepares", False) and conditions <= {"label"}

    def table(self, label: int | None) -> Tensor:
        """(R, *), of one label."""
        if label not in self.tables:
            count = len(self.times)
            blocks = [self.block(label, number) for number in range(-(-count // self.ROWS))]
            self.tables[label] = torch.cat(blocks)[:count]
        return self.tables[label]

    def block(self, label: int | None, number: int) -> Tensor:
        """(ROWS, *), the rows from ROWS * number on, of one label; past the last row it is repeated."""
        times = self.times[self.ROWS * number :][: self.ROWS]
        times = torch.cat([times, times[-1:].expand(self.ROWS - len(times))])
        conditions = {} if label is None else {"label": torch.full((self.ROWS,), label, device=times.device)}
        with evaluating(self.net):
            return self.net.prepare(times, **conditions)

    def of(self, labels: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
        """(E, *), the tables of all labels one after the other, and for each of `count` samples where its own begins,
        (count,). labels: (count,) on the CPU, or None."""
        if labels is None:
            distinct, which = [None], torch.zeros(count, dtype=torch.int64, device="cpu")
        elif labels.ndim != 1 or not holds_integers(labels):
            got = f"{labels.dtype} {tuple(labels.shape)}"
            raise ValueError(f"label must hold integers, one for each of {count} rows; got {got}")
        else:
            found, which = labels.unique(return_inverse=True)
            distinct = found.tolist()
        joined = self.joined  # which another thread may replace
        if joined[0] != distinct:
            tables = [self.table(label) for label in distinct]
            joined = self.joined = distinct, tables[0] if len(tables) == 1 else torch.cat(tables)
        return joined[1], (which * len(self.times)).to(self.times.device)
