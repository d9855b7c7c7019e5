"""A training step as a CUDA graph: forward, loss, backward, clipping, optimizer and averages in one launch."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from ..common import cuda_graphs
from .step import Batch, Step

WARM = 3  # steps of a kind that are taken as they are before it is captured: what is made at a first call may not be


class CapturedStep:
    """A `Step` that is captured, once for each `phase(step)` of the model, and replayed.

    Batch, key and learning rate are copied to where the graph looks for them. What cannot be captured is said, once,
    and the plain step goes on: an error if it `must` be captured.
    """

    def __init__(self, step: Step, must: bool):
        self.step, self.must, self.refused = step, must, False
        self.taken = {}  # phase -> steps taken as they are
        self.graphs = {}  # phase -> what replays it
        self.inputs = None
        step.precision.keep_casts = False  # what autocast makes of weights would be memory of the graph

    def __call__(self, batches: Sequence[tuple[Batch, Tensor]], number: int, lr: float) -> None:
        if self.refused:
            return self.step(batches, number, lr)
        phase = self._phase(number)
        if self.taken.setdefault(phase, 0) < WARM:
            self.taken[phase] += 1
            with cuda_graphs.graphs.aside(self.step.device):
                return self.step(batches, number, lr)
        if phase not in self.graphs and not self._capture(phase, batches, number, lr):
            return self.step(batches, number, lr)
        self._place(batches)
        self.step.torn = True
        self.graphs[phase]()

    def _phase(self, number: int) -> object:
        phase = getattr(self.step.model, "phase", None)
        return None if phase is None else phase(number)

    def _capture(self, phase: object, batches: Sequence[tuple[Batch, Tensor]], number: int, lr: float) -> bool:
        """Whether there is a graph of this phase now."""
        if self.inputs is None:
            self.inputs = [({k: _own(v) for k, v in batch.items()}, key.clone()) for batch, key in batches]
        self._place(batches)

        def run() -> None:
            with torch.enable_grad():
                self.step(self.inputs, number, lr)

        try:
            self.graphs[phase] = cuda_graphs.graphs.capture(run, self.step.device)
        except Exception as error:
            self.step.torn = False  # nothing was done
            reason = f"a training step cannot be captured as a CUDA graph: {error}"
            if self.must:
                raise RuntimeError(f"graph=True: {reason}") from error
            warnings.warn(f"graph='auto' runs the plain steps: {reason}", stacklevel=2)
            self.refused = True
            self.graphs.clear()
        return not self.refused

    def _place(self, batches: Sequence[tuple[Batch, Tensor]]) -> None:
        for (batch, key), (to, to_key) in zip(batches, self.inputs, strict=True):
            to_key.copy_(key)
            for name, value in batch.items():
                if value is not None:
                    to[name].copy_(value)


def _own(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.clone()


def wanted(graph: bool | str, model: object, device: torch.device, own: bool, ranks: int = 1) -> bool:
    """Whether a run goes by captured steps. own: whether the optimizers are those of `fit`, with lr on the device.
    ranks: processes; what they exchange in a step is not captured, so of several each takes plain steps.

    "auto" captures on a GPU what says of each step in which `phase` it is; True all models, whose loss may not depend
    on its step but by that. Raises ValueError where True cannot be."""
    if graph is False:
        return False
    served = cuda_graphs.graphs.serves(device)
    if graph is True and not (served and own and ranks == 1):
        lacking = "optimizer=None, fit's own" if served else f"a CUDA device; the model is on {device}"
        raise ValueError(f"graph=True must go with {lacking if ranks == 1 else f'one process; there are {ranks}'}")
    return served and own and ranks == 1 and (graph is True or hasattr(model, "phase"))
