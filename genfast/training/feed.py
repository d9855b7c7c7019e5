"""What a step is fed: samples, and the keys of all that is random about them."""

from pathlib import Path

import torch
from torch import Tensor

from ..common.indices import share
from ..common.keys import make_key
from ..data.dataset import Data
from ..data.kept import Kept, near
from .encoded import encoded_once
from .settings import Settings
from .step import Batch
from .workers import Workers


class Feed:
    """The rows of each step that this process trains on, on its device: of `ranks` processes each has its share, rows
    next to each other, of every turn's batch. Row r of the run's step s is the same, whoever has it, and whoever reads
    it: `settings.workers` processes do, where not all is in memory, until it is (data/kept.py)."""

    def __init__(self, data: Data, settings: Settings, device: torch.device, rank: int = 0, ranks: int = 1):
        self.data, self.settings, self.device = data, settings, device
        self.world = rank, ranks
        part = share(settings.batch, 1, rank, ranks)
        self.first, self.size = int(part[0]), len(part)
        self.source = near(data.source, device, ranks if device.type == "cpu" else 1)
        reading = settings.workers and not data.source.in_memory
        self.workers = Workers(data.source, self._order, settings.steps, settings.workers) if reading else None

    def encoded(self, model: object, folder: Path | None) -> "Feed":
        """What feeds the same rows as the model finds them, once (encoded.py), in the place of this one."""
        drawn = self.settings.steps * self.settings.samples_a_step
        data = encoded_once(model, self.data, folder, drawn=drawn, progress=self.settings.progress)
        if data is self.data:
            return self
        self.close()
        return Feed(data, self.settings, self.device, *self.world)

    def __call__(self, step: int) -> list[tuple[Batch, Tensor]]:
        """Samples and their keys of step number `step`, of each turn of the first player."""
        order = self._order(step)
        rows = self._read(step, order)
        return [self._made(step, turn, self.first, *part) for turn, part in enumerate(zip(order, rows))]

    def whole(self, step: int) -> tuple[Batch, Tensor]:
        """The batch of the last turn with the rows of all processes."""
        turn = self.settings.critic_steps - 1
        index = self.data.order(self.settings.seed, self._number(step, turn), self.settings.batch)
        return self._made(step, turn, 0, index, self.source.stored(index))

    def measured(self, most: int) -> Batch:
        """The first samples of the run, at most so many, or all; and the names, levels and units of the data."""
        index = self.data.order(self.settings.seed, 0, min(len(self.data), most))
        batch = self._moved(self.data.made(self.source.stored(index), index, self.settings.seed, 0))
        return batch | {name: getattr(self.data, name) for name in ("names", "levels", "units")}

    def close(self) -> None:
        """Nothing is fed any more."""
        if self.workers is not None:
            self.workers.close()

    def _read(self, step: int, order: list[Tensor]) -> list[Tensor]:
        """What the source stores of these samples, of each turn of a step."""
        kept = isinstance(self.source, Kept)
        if self.workers is not None and kept and not self.source.left:
            self.close()
            self.workers = None
        if self.workers is None:
            return [self.source.stored(index) for index in order]
        rows = self.workers(step)
        for index, part in zip(order, rows) if kept else ():
            self.source.put(index, part)
        return rows

    def _order(self, step: int) -> list[Tensor]:
        """Positions in the data of this process's rows of each turn of a step."""
        turns = range(self.settings.critic_steps)
        return [self.data.order(self.settings.seed, self._number(step, t) + self.first, self.size) for t in turns]

    def _number(self, step: int, turn: int) -> int:
        """Of the first sample of a turn in the run."""
        return step * self.settings.samples_a_step + turn * self.settings.batch

    def _made(self, step: int, turn: int, first: int, index: Tensor, stored: Tensor) -> tuple[Batch, Tensor]:
        """The batch and keys of the samples `index`, the first of which is row `first` of a turn."""
        first += self._number(step, turn)
        batch = self._moved(self.data.made(stored.to(self.device), index, self.settings.seed, first))
        counter = torch.arange(first, first + len(index), device="cpu")
        return batch, make_key(self.settings.seed, counter, device=self.device)

    def _moved(self, batch: Batch) -> Batch:
        return {name: None if value is None else value.to(self.device) for name, value in batch.items()}
