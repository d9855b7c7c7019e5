"""One training on several processes: of every batch each has its share, and all have the same weights.

The whole batch is the unit: data, times, noise and dropout of a row are the same whoever has it, and the gradients of
all rows are added up. So the losses are those of one process, up to the order in which sums are rounded. Not so where
rows know of each other: BatchNorm, and the free bits of a VAE, see those of their process, as they see a part of the
batch with `micro_batch`.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed

from ..common import processes
from .settings import PRECISIONS, Settings

if TYPE_CHECKING:
    from .buffers import Buffers

Owner = Callable[[str], Tensor | None]  # of a tensor of a state, by its name: of what is trained it is, or None


def together(settings: Settings) -> "Alone":
    """How the processes that there are train: as `parallel` says, None for "ddp" where they are several. Raises
    ValueError where that cannot be."""
    parallel, batch = settings.parallel, settings.batch
    rank, ranks = processes.world()
    started = "WORLD_SIZE" in os.environ or (distributed.is_available() and distributed.is_initialized())
    if parallel is not None and ranks == 1 and not started:
        raise ValueError(
            "parallel must go with several processes, as `torchrun --nproc-per-node 2 ...` starts them; got "
            f"{parallel!r} in one"
        )
    if ranks == 1:
        return Alone()
    if batch < ranks:
        raise ValueError(f"batch must be at least the number of processes, {ranks}; got {batch}")
    if parallel == "fsdp":
        from .fsdp import Fsdp  # torch's FSDP2 takes a second to import

        return Fsdp(rank, ranks, batch, PRECISIONS[settings.precision])
    return Ddp(rank, ranks, batch)


class Alone:
    """One process, whose gradients are everybody's."""

    rank, ranks = 0, 1
    apart = False  # whether another model than the user's is trained

    def split(self, model: object, players: dict[str | None, dict]) -> tuple[object, dict[str | None, dict]]:
        """Whose loss is computed, and the arguments of each player's optimizer, with what is trained here as params."""
        return model, players

    def of(self, parameter: Tensor) -> Tensor:
        """The parameter of that model of which this is what is trained here."""
        return parameter

    @contextlib.contextmanager
    def computing(self, last: bool) -> Iterator[None]:
        """Inside it a part of the gradient of a turn is found, the last one or not."""
        yield

    def rows(self, here: int) -> int:
        """Of how many rows of a turn a loss is the mean, `here` of which this process has."""
        return here

    def add_up(
        self, parameters: Sequence[Tensor], loss: Tensor, fine: Tensor, buffers: "Buffers"
    ) -> tuple[Tensor, Tensor]:
        """The gradients of the parameters become those of all rows. (loss, fine) of all: the sum, and whether all are
        fine, () bool."""
        return loss, fine

    def norms(self, tensors: Sequence[Tensor], norms: Tensor) -> Tensor:
        """Of what is trained, or its gradients, whose norms here are these: the norms of all of each."""
        return norms

    @contextlib.contextmanager
    def shown(self, parameters: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """Inside it the model holds these values of what is trained; what was trained before, which comes back."""
        before = [p.detach().clone() for p in parameters]
        try:
            self.keep(parameters, values)
            yield before
        finally:
            self.keep(parameters, before)

    @torch.no_grad()
    def keep(self, parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """The model holds these values of what is trained; no second copy on a device that may be full."""
        if values is not parameters:
            torch._foreach_copy_([*parameters], [*values])

    def gathered(self, tensors: Mapping[str, Tensor], owner: Owner) -> Mapping[str, Tensor]:
        """The tensors of a state, as one process would have them; in others than the first they may lack numbers."""
        return tensors

    def send(self, tensors: Mapping[str, Tensor], owner: Owner) -> None:
        """The tensors become those of the first process."""

    def receive(self, tensors: Mapping[str, Tensor], owner: Owner) -> Mapping[str, Tensor]:
        """The tensors of a state that the first process has read, as this one has them; where those here are on the
        meta device, they say of what kind."""
        return tensors


class Ddp(Alone):
    """Every process has all weights, and what the first one saves is all that there is.

    Buffers that a step changes, as BatchNorm's, are those of the first process, in all; their means are over its rows.
    """

    def __init__(self, rank: int, ranks: int, batch: int):
        self.rank, self.ranks, self.batch = rank, ranks, batch
        self.patterns: dict[tuple[bool, ...], Tensor] = {}  # which parameters have gradients -> that, on the device

    def rows(self, here: int) -> int:
        return self.batch

    @torch.no_grad()
    def add_up(
        self, parameters: Sequence[Tensor], loss: Tensor, fine: Tensor, buffers: "Buffers"
    ) -> tuple[Tensor, Tensor]:
        pattern = tuple(p.grad is not None for p in parameters)
        for p, there in zip(parameters, pattern):
            p.grad = p.grad if there else torch.zeros_like(p)
        counts, word = self._counts(pattern, loss), torch.stack([loss, (~fine).to(loss.dtype)])
        own = buffers.floating()
        if self.rank and own:
            torch._foreach_zero_(own)
        processes.add_up([*(p.grad for p in parameters), counts, word, *own])
        if not all(pattern):  # so rare that the host may wait for the device
            for p, count in zip(parameters, counts.tolist()):
                p.grad = p.grad if count else None
        return word[0], word[1] == 0

    def _counts(self, pattern: tuple[bool, ...], like: Tensor) -> Tensor:
        if pattern not in self.patterns:
            self.patterns[pattern] = torch.tensor(pattern, dtype=like.dtype, device=like.device)
        return self.patterns[pattern].clone()

    def send(self, tensors: Mapping[str, Tensor], owner: Owner) -> None:
        for value in tensors.values():
            processes.send(value)

    def receive(self, tensors: Mapping[str, Tensor], owner: Owner) -> Mapping[str, Tensor]:
        return {name: self.part(value, owner(name)) for name, value in self._received(tensors)}

    def part(self, value: Tensor, owner: Tensor | None) -> Tensor:
        """What this process has of a tensor of a state."""
        return value

    def _received(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        for name, value in tensors.items():
            value = torch.empty_like(value, device="cpu") if value.is_meta else value
            processes.send(value)
            yield name, value
