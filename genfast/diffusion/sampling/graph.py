"""One step as a CUDA graph, replayed for every row of every plan, seed, chunk and call."""

import threading
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor, nn

from ...common import cuda_graphs
from ..process.plans import Plan
from .captured import CapturedStep, Uncapturable, refuse
from .fingerprint import fingerprints, surroundings
from .indexed import rooms
from .settings import SampleSettings
from .step import Chunk
from .trajectory import Trajectory


def captures(settings: SampleSettings, networks: Sequence[object], plan: Plan, known: Tensor | None) -> bool:
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
    if settings.graph is True and found:
        raise ValueError(f"graph=True cannot go with {found[0]}")
    return settings.graph is True or (not found and all(isinstance(net, nn.Module) for net in networks))


class Graphs:
    """The captured steps that a model keeps, the two used last. A copy of it, or a pickle, has none.

    A step is captured anew for samples, arguments or settings of another kind, and where the network is no longer what
    it was (fingerprint.py). Weights changed in place are seen; what is prepared is prepared anew in every call.
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
            self.refused: dict[int, object] = {}  # networks of which no step can be captured, as they were then

    def of(self, trajectory: Trajectory, must: bool) -> "Replays":
        """The captured steps for a trajectory.

        must: whether a network that cannot be captured is a RuntimeError; else it is warned of, once.
        """
        same = fingerprints(trajectory.way.networks)
        with self.lock:
            self.steps = {kind: step for kind, step in self.steps.items() if step.made_of(same)}
        return Replays(self, trajectory, same, must)

    def step(self, trajectory: Trajectory, chunk: Chunk) -> CapturedStep:
        """The captured step for this chunk: one with as much room as it needs, or more."""
        kind, sizes = _kind(trajectory, chunk), rooms(trajectory.tables, chunk.entries)
        roomy = (at for at in self.steps if at[0] == kind and all(n <= room for n, room in zip(sizes, at[1])))
        at = next(roomy, (kind, sizes))
        step = self.steps.pop(at, None)
        while len(self.steps) >= self.KEPT:  # before there is another, which needs the memory
            self.steps.pop(next(iter(self.steps)))
        self.steps[at] = step or CapturedStep(trajectory, chunk)
        return self.steps[at]


class Replays:
    """The captured steps of one call of `sample`."""

    def __init__(self, graphs: Graphs, trajectory: Trajectory, networks: dict[int, object], must: bool):
        self.graphs, self.trajectory, self.networks, self.must = graphs, trajectory, networks, must

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
        refused = any(graphs.refused.get(net) == now for net, now in self.networks.items())
        if (refused and not self.must) or not graphs.lock.acquire(blocking=False):
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
            graphs.refused |= self.networks
            graphs.steps = {}
            refuse(error, self.must, stacklevel=6)
            return None
        finally:
            graphs.lock.release()


def _kind(trajectory: Trajectory, chunk: Chunk) -> Hashable:
    """What a captured step is made for."""
    _, _, *way = trajectory.way
    nets = tuple(map(id, trajectory.way.networks))  # which the step holds
    parts = {field: part if isinstance(part, dict) else {"": part} for field, part in chunk._asdict().items()}
    del parts["entries"]  # there is room for more of them
    tensors = [
        (field, name, value.shape, value.dtype, value.device)
        for field, part in parts.items() for name, value in part.items() if value is not None
    ]  # fmt: skip
    return *way, nets, trajectory.plan.slots, surroundings(chunk.x.device), *tensors
