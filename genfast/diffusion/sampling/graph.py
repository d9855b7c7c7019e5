"""One step as a CUDA graph, replayed for every row of every plan, seed, chunk and call."""

import functools
import threading
import warnings
from collections.abc import Callable, Hashable

import torch
from torch import Tensor, nn

from ...common.host_reads import HostRead, no_host_reads
from ..process.denoisers import Denoiser
from ..process.plans import Plan
from . import cuda_graphs
from .fingerprint import fingerprint, surroundings, versions
from .indexed import IndexedStep, rooms
from .settings import SampleSettings
from .step import Chunk, Step
from .trajectory import Trajectory


def captures(settings: SampleSettings, denoiser: Denoiser, plan: Plan, known: Tensor | None) -> bool:
    """Whether a call of `sample` goes by a captured step. "auto" does where it can and the networks are Modules, in
    which a change is seen; True raises ValueError where settings stand in the way."""
    if settings.graph is False or not cuda_graphs.graphs.serves(settings.device):
        return False
    obstacles = {
        "dtype=torch.float64, which runs by plain torch": settings.dtype == torch.float64,
        "callback, which the host calls": settings.callback is not None,
        "known, whose noise the host asks for": known is not None,
        "Langevin rows, whose noise the host asks for": bool(plan.snr.any()),
    }
    found = [name for name, there in obstacles.items() if there]
    if settings.graph is True:
        if found:
            raise ValueError(f"graph=True cannot go with {found[0]}")
        return True
    networks = [denoiser.net, *([settings.guidance.network] if settings.guidance and settings.guidance.network else [])]
    return not found and all(isinstance(net, nn.Module) for net in networks)


class Uncapturable(Exception):
    """Why a step cannot be captured."""


class CapturedStep:
    """An `IndexedStep` and its graphs: one for rows that are guided, and one for those that are not."""

    def __init__(self, trajectory: Trajectory, chunk: Chunk):
        self.lock, self.device, self.graphs = threading.Lock(), chunk.x.device, {}
        own = Chunk(**{name: _own(part) for name, part in chunk._asdict().items()})
        step = Step(trajectory.way, own, trajectory.first_input(own.x), trajectory.plan.slots)
        self.indexed = IndexedStep(step, trajectory.tables, chunk.entries, own.place)
        self.loaded = trajectory, chunk.entries
        self._warm_up(trajectory, chunk)

    def run(self, trajectory: Trajectory, chunk: Chunk, done: Callable[[], None]) -> Tensor:
        """What `trajectory.run` answers."""
        self._place(trajectory, chunk)
        for r in range(len(trajectory.plan)):
            if r == 0 and self.apart:
                self._first_row(trajectory, chunk)
            else:
                self.graphs[trajectory.guided(r)]()
            done()
        return self.indexed.step.x.clone()

    def _warm_up(self, trajectory: Trajectory, chunk: Chunk) -> None:
        """Calls the network as the loop does in its first row, and as it does in the others. apart: whether it makes
        something else of an input in another memory format, so that the first row stays out of the graph."""
        step, layout, guided = self.indexed.step, chunk.x.stride(), trajectory.guided(0)
        try:
            with no_host_reads(self.device):
                first = step.predict(self.indexed.row(), guided)
        except HostRead as error:
            raise Uncapturable(str(error)) from error
        self._place(trajectory, chunk)
        with cuda_graphs.graphs.aside(self.device):
            again = step.predict(self.indexed.row(), guided)
        same = (a is None or torch.equal(a, b) for a, b in zip(first, again, strict=True))
        self.apart = step.x.stride() != layout and not all(same)
        self.warm = {guided}

    def capture(self, trajectory: Trajectory) -> None:
        """Captures what rows of the plan need and there is no graph of yet."""
        for guided in {trajectory.guided(r) for r in range(len(trajectory.plan))} - self.graphs.keys():
            if guided not in self.warm:
                with cuda_graphs.graphs.aside(self.device):
                    self.indexed.step.predict(self.indexed.row(), guided)
            try:
                self.graphs[guided] = cuda_graphs.graphs.capture(functools.partial(self.indexed, guided), self.device)
            except Exception as error:  # of any kind: the driver's, torch's, the network's
                raise Uncapturable(str(error)) from error

    def _place(self, trajectory: Trajectory, chunk: Chunk) -> None:
        """Puts a chunk at the beginning of its plan where the graphs look for it."""
        indexed, step = self.indexed, self.indexed.step
        if self.loaded[0] is not trajectory or self.loaded[1] is not chunk.entries:
            indexed.load(trajectory.tables, chunk.entries)
            self.loaded = trajectory, chunk.entries
        step.key.copy_(chunk.key)
        step.x.copy_(chunk.x)
        if step.y is not None:
            step.y.copy_(trajectory.first_input(chunk.x))
        if step.history is not None:
            step.history.zero_()
        if chunk.w is not None:
            step.w.copy_(chunk.w)
        if chunk.place is not None:
            indexed.place.copy_(chunk.place)
        for to, new in ((step.network.condition, chunk.condition), (step.network.unconditional, chunk.unconditional)):
            for name, value in to.items():
                value.copy_(new[name])
        indexed.index.zero_()

    def _first_row(self, trajectory: Trajectory, chunk: Chunk) -> None:
        """The first row as the loop takes it, on the chunk itself."""
        indexed, step = self.indexed, self.indexed.step
        loop = Step(trajectory.way, chunk, trajectory.first_input(chunk.x), trajectory.plan.slots)
        row = indexed.row()
        loop.advance(row, indexed.tables.step, *loop.predict(row, trajectory.guided(0)))
        for to, new in ((step.x, loop.x), (step.y, loop.y), (step.history, loop.history)):
            if to is not None:
                to.copy_(new)
        indexed.index.add_(1)


class Graphs:
    """The captured steps that a model keeps, the two used last. A copy of it, or a pickle, has none.

    A step is captured anew for samples, arguments or settings of another kind, and where the network is no longer what
    it was (fingerprint.py). Weights changed in place are seen; what is prepared is then prepared anew.
    """

    KEPT = 2

    def __init__(self):
        self.lock = threading.Lock()
        self.release()

    def __reduce__(self):
        return Graphs, ()

    def release(self) -> None:
        """Frees what is kept."""
        with self.lock:
            self.steps: dict[Hashable, CapturedStep] = {}
            self.network, self.refused, self.prepared = None, False, (None, None)

    def of(self, trajectory: Trajectory, must: bool) -> "Replays":
        """The captured steps for a trajectory, which takes over what has been prepared for one like it.

        must: whether a network that cannot be captured is a RuntimeError; else it is warned of, once.
        """
        nets = [net.net for net in (trajectory.way.net, trajectory.way.other) if net is not None]
        nets = [net for net in nets if isinstance(net, nn.Module)]
        same, changes = tuple(map(fingerprint, nets)), tuple(map(versions, nets))
        with self.lock:
            if self.network != same:
                self.network, self.steps, self.refused, self.prepared = same, {}, False, (None, None)
            key = (trajectory.times, changes)
            if None in changes or self.prepared[0] != key:
                self.prepared = key, trajectory.prepared
            trajectory.prepared = self.prepared[1]
        return Replays(self, trajectory, must)

    def step(self, trajectory: Trajectory, chunk: Chunk) -> CapturedStep:
        """The captured step for this chunk."""
        kind = _kind(trajectory, chunk)
        step = self.steps.pop(kind, None) or CapturedStep(trajectory, chunk)
        while len(self.steps) >= self.KEPT:
            self.steps.pop(next(iter(self.steps)))
        self.steps[kind] = step
        return step


class Replays:
    """The captured steps of one call of `sample`."""

    def __init__(self, graphs: Graphs, trajectory: Trajectory, must: bool):
        self.graphs, self.trajectory, self.must = graphs, trajectory, must

    def __call__(self, chunk: Chunk, done: Callable[[], None]) -> Tensor | None:
        """What `trajectory.run` answers; None where that is for the loop to do: the network cannot be captured, or
        another thread has the step."""
        step = self._taken(chunk)
        if step is None:
            return None
        try:
            return step.run(self.trajectory, chunk, done)
        finally:
            step.lock.release()

    def _taken(self, chunk: Chunk) -> CapturedStep | None:
        """The step, locked and with all its graphs."""
        graphs = self.graphs
        if (graphs.refused and not self.must) or not graphs.lock.acquire(blocking=False):
            return None
        try:
            step = graphs.step(self.trajectory, chunk)
            if not step.lock.acquire(blocking=False):
                return None
            try:
                step.capture(self.trajectory)
            except BaseException:
                step.lock.release()
                raise
            return step
        except Uncapturable as error:
            graphs.refused = True
            reason = f"the step cannot be captured as a CUDA graph: {error}"
            if self.must:
                raise RuntimeError(f"graph=True: {reason}") from error
            warnings.warn(f"graph='auto' runs the plain loop: {reason}", stacklevel=6)
            return None
        finally:
            graphs.lock.release()


def _kind(trajectory: Trajectory, chunk: Chunk) -> Hashable:
    """What a captured step is made for."""
    net, other, *way = trajectory.way
    parts = {field: part if isinstance(part, dict) else {"": part} for field, part in chunk._asdict().items()}
    entries = parts.pop("entries")[""]
    tensors = [
        (field, name, value.shape, value.dtype, value.device)
        for field, part in parts.items() for name, value in part.items() if value is not None
    ]  # fmt: skip
    sizes = trajectory.plan.slots, rooms(trajectory.tables, entries)
    prepared = None if entries is None else (entries.shape[1:], entries.dtype)
    return *way, net.net, other and other.net, sizes, prepared, surroundings(chunk.x.device), *tensors


def _own(part):
    """A clone of a tensor, or of those in a dict."""
    if isinstance(part, dict):
        return {name: value.clone() for name, value in part.items()}
    return None if part is None else part.clone()
