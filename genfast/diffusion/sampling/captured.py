"""A step and its CUDA graphs: what is captured, and how a chunk goes by it."""

import functools
import threading
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ... import ops
from ...common import cuda_graphs
from ...common.host_reads import HostRead, no_host_reads
from .fingerprint import fingerprints
from .indexed import IndexedStep, copy_first, grown, rooms
from .step import Chunk, Step
from .trajectory import Trajectory


class Uncapturable(Exception):
    """Why a step cannot be captured."""


def refuse(error: Uncapturable, must: bool, stacklevel: int) -> None:
    """What is said where a step cannot be captured: a RuntimeError if it must be, else a warning."""
    reason = f"the step cannot be captured as a CUDA graph: {error}"
    if must:
        raise RuntimeError(f"graph=True: {reason}") from error
    warnings.warn(f"graph='auto' runs the plain loop: {reason}", stacklevel=stacklevel + 1)


class StepGraphs:
    """The graphs of an `IndexedStep`: one for rows that are guided, and one for those that are not.

    held: the memory of the weights that they read, which may be replaced in the network meanwhile.
    """

    def __init__(self, indexed: IndexedStep):
        self.indexed, self.device, self.graphs = indexed, indexed.index.device, {}
        modules = [network for network in indexed.step.way.networks if isinstance(network, nn.Module)]
        tensors = [t for module in modules for t in (*module.parameters(), *module.buffers())]
        self.held = [t.detach() for t in tensors if not nn.parameter.is_lazy(t)]

    def __call__(self, guided: bool) -> None:
        """A row for all samples, and on to the next."""
        self.graphs[guided]()

    def watched(self, guided: bool) -> tuple[Tensor | None, ...]:
        """What the network makes of the row, as the loop asks for it. Raises Uncapturable where it reads the device."""
        try:
            with no_host_reads(self.device):
                return self.indexed.predict(guided)
        except HostRead as error:
            raise Uncapturable(str(error)) from error

    def warm(self, guided: bool) -> tuple[Tensor | None, ...]:
        """The same on a stream aside, as a capture will ask for it."""
        with cuda_graphs.graphs.aside(self.device):
            return self.indexed.predict(guided)

    def capture(self, guided: bool) -> None:
        """A graph of what is warm. Raises Uncapturable where CUDA, torch or the network refuse."""
        try:
            self.graphs[guided] = cuda_graphs.graphs.capture(functools.partial(self.indexed, guided), self.device)
        except Exception as error:
            raise Uncapturable(str(error)) from error


class CapturedStep:
    """The graphs of a step, and what the samples of a chunk need to go by them.

    networks: the fingerprints of those that it calls, as the captures left them.
    """

    def __init__(self, trajectory: Trajectory, chunk: Chunk):
        self.lock, self.used, self.networks = threading.Lock(), None, {}
        # Of noise, for a start may be such that a network answers zeros whatever it does.
        z = ops.in_layout_of(ops.normal(chunk.key, chunk.x.shape[1:], ops.Purpose.PRIOR, dtype=chunk.x.dtype), chunk.x)
        chunk = chunk._replace(x=z)
        own = Chunk(**{name: _own(part) for name, part in chunk._asdict().items() if name != "entries"})
        step = Step(trajectory.way, own, trajectory.first_input(own.x), trajectory.plan.slots)
        _, _, many = rooms(trajectory.tables, chunk.entries)
        entries = None if chunk.entries is None else grown(chunk.entries, many)
        self.indexed = IndexedStep(step, trajectory.tables, entries, own.place)
        self.loaded = trajectory.tables, chunk.entries
        self.graphs, guided = StepGraphs(self.indexed), trajectory.guided(0)
        first = self.graphs.watched(guided)
        self._place(trajectory, chunk)
        again = self.graphs.warm(guided)
        # Where the network makes something else of an input in another memory format, the first row is not captured.
        same = all(a is None or torch.equal(a, b) for a, b in zip(first, again, strict=True))
        self.apart = step.x.stride() != chunk.x.stride() and not same
        self.warm = {guided}

    def made_of(self, networks: dict[int, object]) -> bool:
        """Whether its networks, as far as they are among these, are what they were."""
        return all(networks.get(net, was) == was for net, was in self.networks.items())

    def capture(self, trajectory: Trajectory) -> None:
        """Captures what rows of the plan need and there is no graph of yet."""
        missing = {trajectory.guided(r) for r in range(len(trajectory.plan))} - self.graphs.graphs.keys()
        if not missing:
            return
        self.indexed.index.zero_()  # the last chunk left it behind its plan
        for guided in missing:
            if guided not in self.warm:
                self.graphs.warm(guided)
            self.graphs.capture(guided)
            self.networks = fingerprints(trajectory.way.networks)  # now, for some keep what they compute

    def run(self, trajectory: Trajectory, chunk: Chunk, done: Callable[[], None]) -> Tensor:
        """What `trajectory.run` answers."""
        device = chunk.x.device
        if self.used is not None:
            cuda_graphs.graphs.wait(self.used, device)  # the tensors are the same, the stream may be another
        self._place(trajectory, chunk)
        try:
            for r in range(len(trajectory.plan)):
                if r == 0 and self.apart:
                    self._first_row(trajectory, chunk)
                else:
                    self.graphs(trajectory.guided(r))
                done()
            return self.indexed.step.x.clone()
        finally:  # also where done() raises, as at Ctrl-C
            self.used = cuda_graphs.graphs.mark(device)

    def _place(self, trajectory: Trajectory, chunk: Chunk) -> None:
        """Puts a chunk at the beginning of its plan where the graphs look for it."""
        indexed, step = self.indexed, self.indexed.step
        if self.loaded[0] is not trajectory.tables:
            indexed.load(trajectory.tables)
        if chunk.entries is not None and self.loaded[1] is not chunk.entries:
            copy_first([indexed.entries], [chunk.entries])
        self.loaded = trajectory.tables, chunk.entries
        y = None if step.y is None else trajectory.first_input(chunk.x)
        pairs = (step.key, chunk.key), (step.x, chunk.x), (step.y, y), (step.w, chunk.w), (indexed.place, chunk.place)
        for to, new in pairs:
            if to is not None:
                to.copy_(new)
        step.network.tell(chunk.condition, chunk.unconditional)
        indexed.index.zero_()

    def _first_row(self, trajectory: Trajectory, chunk: Chunk) -> None:
        """The first row as the loop takes it, on the chunk itself."""
        indexed, step, guided = self.indexed, self.indexed.step, trajectory.guided(0)
        loop = Step(trajectory.way, chunk, trajectory.first_input(chunk.x), trajectory.plan.slots)
        row = indexed.row(guided)
        loop.advance(row, indexed.tables.step, *loop.predict(row, guided))
        for to, new in ((step.x, loop.x), (step.y, loop.y), (step.history, loop.history)):
            if to is not None:
                to.copy_(new)
        indexed.index.add_(1)


def _own(part):
    """A clone of a tensor, or of those in a dict."""
    if isinstance(part, dict):
        return {name: value.clone() for name, value in part.items()}
    return None if part is None else part.clone()
