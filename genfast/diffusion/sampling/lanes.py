"""The samples of a queue on their way, each at its own row of its own plan, in one batch."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ... import ops
from ...common import cuda_graphs
from ..process.denoisers import Denoiser, Network
from ..process.plans import Plan
from .captured import StepGraphs, Uncapturable, refuse
from .fingerprint import fingerprints, surroundings
from .indexed import IndexedStep, grown, room
from .prepared import Prepared
from .rows import Tables
from .step import Chunk, Step, Way


@dataclasses.dataclass(eq=False)
class Part:
    """A plan with its noise, on the device, for all requests that have it; users: how many wait or run.

    c_in: of the first row; prepared: what the network says of the rows beforehand.
    """

    plan: Plan
    noise: str
    tables: Tables
    c_in: float
    prepared: Prepared | None
    users: int = 0


class Request(NamedTuple):
    """One sample to draw: its ticket, the (seed, index) that its noise comes from, how, and the network's arguments,
    each (*), on the CPU."""

    ticket: int
    index: int
    seed: int
    part: Part
    guidance: float
    condition: dict[str, Tensor]
    unconditional: dict[str, Tensor]


class Blocks:
    """What is prepared of the rows that samples are in, block by block, in one tensor: (E, *), 64 rows a block."""

    def __init__(self):
        self.entries, self.at = None, {}  # at: the first row of each block

    def keep(self, wanted: Sequence[tuple[Part, int | None, int]]) -> list[int]:
        """The first rows of these blocks, each the part, the label and the number of the block; all others go."""
        distinct = dict.fromkeys(wanted)
        self.at = {block: first for block, first in self.at.items() if block in distinct}
        missing = [block for block in distinct if block not in self.at]
        free = sorted(set(range(0, Prepared.ROWS * len(distinct), Prepared.ROWS)) - set(self.at.values()))
        for block, first in zip(missing, free, strict=False):
            part, label, number = block
            rows = part.prepared.block(label, number)
            if self.entries is None or first + len(rows) > len(self.entries):
                past = rows[:0] if self.entries is None else self.entries
                self.entries = grown(past, room(first + len(rows), Prepared.ROWS))
            self.entries[first : first + len(rows)] = rows
            self.at[block] = first
        return [self.at[block] for block in wanted]


class Lanes:
    """Room for `capacity` samples, each on a way of its own; a free place repeats another one, which the network takes.

    graph: as in `sampling.sample`.
    """

    def __init__(
        self, denoiser: Denoiser, shape: tuple[int, ...], capacity: int, clamp: tuple[float, float] | None,
        device: torch.device, graph: bool | str,
    ):  # fmt: skip
        self.net, self.clamp = denoiser.net, clamp
        self.shape, self.capacity, self.device, self.graph = shape, capacity, device, graph
        of_modules = graph is True or (graph == "auto" and isinstance(self.net, nn.Module))
        self.captures, self.kind = of_modules and cuda_graphs.graphs.serves(device), None
        self.step, self.indexed, self.graphs = None, None, None
        self.parts: list[Part] = []  # whose tables are laid out, one after the other

    def begin(self, condition: dict[str, Tensor]) -> None:
        """Room for samples with arguments like these, of the network as it is now."""
        net = Network(self.net)
        self.way = Way(
            net=net, other=None, net_dtype=net.dtype or torch.float32, dtype=torch.float32, clamp=self.clamp,
            threshold=None, rescale=0.0, denoised=False, shared=False,
        )  # fmt: skip
        count, device = self.capacity, self.device
        x, y = (torch.zeros(count, *self.shape, dtype=torch.float32, device=device) for _ in range(2))
        key = torch.zeros(count, 2, dtype=torch.int64, device=device)
        sides = (
            {name: value.new_zeros(count, *value.shape, device=device) for name, value in condition.items()}
            for _ in range(2)
        )
        self.step = Step(self.way, Chunk(key, x, *sides, w=x.new_ones(count)), y, ops.SLOTS)
        self.indexed = self.graphs = None
        self.blocks = Blocks()

    @property
    def outdated(self) -> bool:
        """Whether the network is of another dtype now."""
        return Network(self.net).dtype != self.way.net.dtype

    def place(self, slot: int, request: Request) -> None:
        """Puts a sample at the beginning of its plan."""
        step, part = self.step, request.part
        key = ops.make_key(request.seed, [request.index], self.device)
        x = part.plan.start(ops.normal(key, self.shape, ops.Purpose.PRIOR))
        step.x[slot], step.y[slot] = x[0], part.c_in * x[0]
        if step.history is not None:
            step.history[:, slot] = 0
        step.key[slot], step.w[slot] = key[0], request.guidance
        step.network.tell(request.condition, request.unconditional, slot)

    def lay_out(self, running: Sequence[Request | None], rows: Sequence[int]) -> None:
        """The plans that run, and the place of every sample in them: row rows[slot] of its own."""
        there = next(slot for slot, request in enumerate(running) if request is not None)
        sources = [there if request is None else slot for slot, request in enumerate(running)]
        if sources != list(range(self.capacity)):
            self._repeat(torch.tensor(sources, device=self.device))
        requests, rows = [running[slot] for slot in sources], [rows[slot] for slot in sources]
        parts = list(dict.fromkeys(request.part for request in requests))
        lengths = [len(part.plan) for part in parts]
        first = dict(zip(parts, itertools.accumulate(lengths, initial=0), strict=False))
        index = [first[request.part] + row for request, row in zip(requests, rows, strict=True)]
        entries, place = self._prepared(requests, rows, index)
        tables = Tables(
            functools.reduce(ops.StepTable.followed_by, (part.tables.step for part in parts)),
            *(torch.cat(columns) for columns in zip(*(part.tables[1:] for part in parts), strict=True)),
        )
        if self.indexed is None or not self.indexed.fits(tables) or self.indexed.entries is not entries:
            self.indexed, self.graphs = IndexedStep(self.step, tables, entries, place), None
        elif parts != self.parts:
            self.indexed.load(tables)
        if self.graphs is not None and self._kind() != self.kind:
            self.graphs = None
        self.parts = parts
        self.indexed.index.copy_(torch.tensor(index, dtype=torch.int32, device="cpu"))
        if place is not None:
            self.indexed.place.copy_(place)

    def clear(self) -> None:
        """Lets go of plans and of what is prepared for them."""
        self.parts = []
        self.blocks.at.clear()

    def advance(self, guided: bool) -> None:
        """A row for all samples."""
        if self.captures and self.step.began:  # before that the memory format is not known
            try:
                return self._capture(guided)(guided)
            except Uncapturable as error:
                self.captures, self.graphs = False, None
                refuse(error, self.graph is True, stacklevel=4)
        self.indexed(guided)

    def _capture(self, guided: bool) -> StepGraphs:
        """The graphs of the step, with one for such rows."""
        self.graphs = self.graphs or StepGraphs(self.indexed)
        if guided not in self.graphs.graphs:
            y = self.step.y.clone()  # which a network may use up
            self.graphs.watched(guided)
            self.step.y.copy_(y)
            self.graphs.warm(guided)
            self.step.y.copy_(y)
            self.graphs.capture(guided)
            self.kind = self._kind()
        return self.graphs

    def _kind(self) -> object:
        """What the graphs depend on without seeing it change."""
        return fingerprints([self.net]), surroundings(self.device)

    def __getstate__(self) -> dict:
        """Without graphs, which are of one process."""
        return vars(self) | {"graphs": None, "kind": None}

    def alone(self, slot: int, guided: bool) -> None:
        """Calls the network on the sample of one slot alone, as many times as there are rows in its batch."""
        row, network = self.indexed.row(guided), self.step.network
        sides = [slot] * self.capacity + [self.capacity + slot] * self.capacity * guided
        at = torch.tensor(sides, device=self.device)
        known = network.both if row.prepared is None else {"prepared": row.prepared}
        y = self.step.y[at % self.capacity].to(self.way.net_dtype)
        self.way.net(y, row.time[at], {name: value[at] for name, value in known.items()})

    def _repeat(self, at: Tensor) -> None:
        """Every sample becomes a copy of that in another slot, most of them of that in their own."""
        step, network = self.step, self.step.network
        for part in (step.x, step.y, step.key, step.w):
            part.copy_(part[at])
        if step.history is not None:
            step.history.copy_(step.history[:, at])
        sides = ({name: value[at + first] for name, value in network.both.items()} for first in (0, self.capacity))
        network.tell(*sides)

    def _prepared(
        self, requests: Sequence[Request], rows: Sequence[int], index: Sequence[int]
    ) -> tuple[Tensor | None, Tensor | None]:
        """`entries` and `place` of `IndexedStep`, for samples at row rows[i] of their own plan, index[i] of all."""
        if not Prepared.fits(self.net, set(requests[0].condition)):
            return None, None
        sides = [request.condition for request in requests] + [request.unconditional for request in requests]
        labels = [int(side["label"]) if side else None for side in sides]
        twice = zip([request.part for request in requests] * 2, labels, rows * 2, strict=True)
        firsts = self.blocks.keep([(part, label, row // Prepared.ROWS) for part, label, row in twice])
        place = [first + row % Prepared.ROWS - at for first, row, at in zip(firsts, rows * 2, index * 2, strict=True)]
        return self.blocks.entries, torch.tensor(place, device=self.device)
