"""One row of a plan for all samples of a chunk: the network, then one fused step; nothing reads the device."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ... import ops
from ...ops.dispatch import overlap, per_row
from ..guidance.classifier_free import mixed
from ..process.denoisers import Network
from .rows import Row


class Way(NamedTuple):
    """How samples advance, whatever their plan.

    net, other: the network, and the one that gives F_u where that has a network of its own.  net_dtype, dtype: of the
    network's input and of the state.  clamp, threshold, rescale: as in `sampling.sample` and `Guidance`.  denoised:
    whether the step takes D in place of F.  shared: whether the state itself may be the network's input.
    """

    net: Network
    other: Network | None
    net_dtype: torch.dtype
    dtype: torch.dtype
    clamp: tuple[float, float] | None
    threshold: float | None
    rescale: float
    denoised: bool
    shared: bool

    @property
    def networks(self) -> list[Callable]:
        """All that is called."""
        return [network.net for network in (self.net, self.other) if network is not None]


class Chunk(NamedTuple):
    """The samples of one run; every tensor has one row a sample.

    place: (B,), twice B if guided by the network itself: where the entries of each begin in `entries`, (E, *), which is
    what the network has prepared of all rows of the plan, one label after the other.
    """

    key: Tensor  # (B, 2)
    x: Tensor  # (B, *), at the first row's time
    condition: dict[str, Tensor]
    unconditional: dict[str, Tensor]  # with w: the arguments of the network that gives F_u
    w: Tensor | None = None  # (B,)
    known: Tensor | None = None  # (B, *), with mask (B, *): what the sample is to be where the mask is 1
    mask: Tensor | None = None
    entries: Tensor | None = None
    place: Tensor | None = None


class Step:
    """The samples of a chunk on their way.

    x: (B, *), the state.  y: (B, *), the network's next input, or None where that is x itself.  history: (slots, B, *).
    State, history and input take the memory format in which the network first answers.
    """

    def __init__(self, way: Way, chunk: Chunk, y: Tensor, slots: int):
        self.way, self.key, self.w = way, chunk.key, chunk.w
        self.x, self.y, self.history, self.slots = chunk.x, y, None, slots
        self.network = Answers(way, chunk)
        self.began = False

    def predict(self, row: Row, guided: bool) -> tuple[Tensor, Tensor | None]:
        """F_c, and F_u in a row that is guided; D and None where the step takes D."""
        y = self.x if self.y is None else self.y.to(self.way.net_dtype)
        version = _version(y)
        F_c, F_u = self.network(y, row, guided)
        changed = _version(y) != version
        if not self.began:
            self._begin(F_c, changed)
        elif changed and self.y is None:
            raise ValueError("the network must leave its input as it is; it changed it in place")
        F_c, F_u = (F if F is None else _apart(ops.in_layout_of(F, self.x), self.x, y) for F in (F_c, F_u))
        return (self.denoised(row, F_c, F_u), None) if self.way.denoised else (F_c, F_u)

    def denoised(self, row: Row, F_c: Tensor, F_u: Tensor | None) -> Tensor:
        """D, (B, *), in the dtype of the state."""
        F = F_c.to(self.x.dtype) if F_u is None else mixed(F_c, F_u, self.w, self.way.rescale)
        D = per_row(row.c_skip, self.x) * self.x + per_row(row.c_out, self.x) * F
        if self.way.clamp is not None:
            D = D.clamp(*self.way.clamp)
        return D if self.way.threshold is None else ops.dynamic_threshold(D, self.way.threshold)

    def advance(self, row: Row, table: ops.StepTable, F_c: Tensor, F_u: Tensor | None, last: bool = False) -> None:
        """x, history and y of the row after."""
        y = self.next_input(F_c, last)
        ops.step(
            self.x, F_c, self.key, row.index, table,
            y=y, history=self.history, clamp=self.way.clamp, **self.mixing(F_u),
        )  # fmt: skip
        self.take_input(y)

    def next_input(self, F: Tensor, last: bool) -> Tensor | None:
        """Where the kernel of a row is to write the network's next input, which is of the dtype of F."""
        if last or self.y is None or self.y.dtype == F.dtype:
            return None if last else self.y
        return torch.empty_like(self.x, dtype=F.dtype)

    def take_input(self, y: Tensor | None) -> None:
        """y as it was written; that of the step stays where it is, for a graph reads it there."""
        if y is not None and y is not self.y:
            self.y.copy_(y)

    def mixing(self, F_u: Tensor | None) -> dict[str, Tensor]:
        """What a step takes of guidance."""
        return {} if F_u is None else {"unconditional": F_u, "guidance": self.w}

    def _begin(self, F: Tensor, changed: bool) -> None:
        """Lays out x, y and history as F, which the network answers with; changed: if it changed its input."""
        self.began = True
        self.x = ops.in_layout_of(self.x, ops.dense(F))
        if self.slots:
            self.history = self.x.new_empty_strided((self.slots, *self.x.shape), (self.x.numel(), *self.x.stride()))
            self.history.zero_()
        # Where nothing scales or rounds it, and torch tells whether a network changed it, x itself is the input.
        if self.way.shared and not changed and not self.x.is_inference():
            self.y = None
        else:
            self.y = torch.empty_like(self.x, dtype=self.x.dtype if self.way.denoised else F.dtype).copy_(self.y)


class Answers:
    """The network on a chunk: F_c and, in rows that are guided, F_u, both in one call where it is one network.

    Its arguments are `condition` and `unconditional`, each (B, *), or where it is called on both at once `both`, each
    (2 B, *).
    """

    def __init__(self, way: Way, chunk: Chunk):
        self.way, self.batch = way, len(chunk.x)
        self.doubled = chunk.w is not None and way.other is None
        self.condition, self.unconditional, self.both = chunk.condition, chunk.unconditional, {}
        if self.doubled:
            pairs = {name: (value, chunk.unconditional[name]) for name, value in chunk.condition.items()}
            self.both = {name: torch.cat(pair) for name, pair in pairs.items()}

    def tell(
        self, condition: dict[str, Tensor], unconditional: dict[str, Tensor], at: slice | int = slice(None)
    ) -> None:
        """Writes other arguments over those of the samples `at`."""
        for own, new in ((self.condition, condition), (self.unconditional, unconditional)):
            for name, value in own.items():
                value[at] = new[name]
        for name, value in self.both.items():
            value[: self.batch][at], value[self.batch :][at] = condition[name], unconditional[name]

    def __call__(self, y: Tensor, row: Row, guided: bool) -> tuple[Tensor, Tensor | None]:
        if guided and self.doubled:
            return self._call(self.way.net, torch.cat([y, y]), row, self.both).chunk(2)
        F_c = self._call(self.way.net, y, row, self.condition)
        if not guided:
            return F_c, None
        F_u = self._call(self.way.other, y, row, self.unconditional)
        dtype = torch.promote_types(F_c.dtype, F_u.dtype)
        return F_c.to(dtype), F_u.to(dtype)

    def _call(self, net: Network, y: Tensor, row: Row, conditions: dict[str, Tensor]) -> Tensor:
        time, prepared = row.time, row.prepared
        if len(time) != len(y):
            time, prepared = time[: len(y)], None if prepared is None else prepared[: len(y)]
        known = conditions if prepared is None or net is not self.way.net else {"prepared": prepared}
        answer = net(y, time, known)
        if answer.dtype != y.dtype:  # the wider of the two, so that neither input nor answer is rounded again
            answer = answer.to(torch.promote_types(answer.dtype, y.dtype))
        # The kernels take no float64 beside a float32 state.
        return answer.to(self.way.dtype) if answer.dtype == torch.float64 else answer


def _apart(F: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The network's answer; a copy where it is its own input, which the step writes to."""
    return F.clone() if overlap(F, x) or overlap(F, y) else F


def _version(x: Tensor) -> int:
    """How often x was changed in place; 0 where torch does not count."""
    return 0 if x.is_inference() else x._version
