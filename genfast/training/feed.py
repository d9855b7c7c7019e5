"""What a step is fed: samples, and the keys of all that is random about them."""

import torch
from torch import Tensor

from ..common.indices import share
from ..common.keys import make_key
from ..data.dataset import Data
from .settings import Settings
from .step import Batch


class Feed:
    """The rows of each step that this process trains on, on its device: of `ranks` processes each has its share, rows
    next to each other, of every turn's batch. Row r of the run's step s is the same, whoever has it."""

    def __init__(self, data: Data, settings: Settings, device: torch.device, rank: int = 0, ranks: int = 1):
        self.data, self.settings, self.device = data, settings, device
        self.world = rank, ranks
        part = share(settings.batch, 1, rank, ranks)
        self.first, self.size = int(part[0]), len(part)

    def of(self, data: Data) -> "Feed":
        """What feeds the same rows of other data."""
        return self if data is self.data else Feed(data, self.settings, self.device, *self.world)

    def __call__(self, step: int) -> list[tuple[Batch, Tensor]]:
        """Samples and their keys of step number `step`, of each turn of the first player."""
        return [self._rows(step, turn, self.first, self.size) for turn in range(self.settings.critic_steps)]

    def whole(self, step: int) -> tuple[Batch, Tensor]:
        """The batch of the last turn with the rows of all processes."""
        return self._rows(step, self.settings.critic_steps - 1, 0, self.settings.batch)

    def measured(self, most: int) -> Batch:
        """The first samples of the run, at most so many, or all; and the names, levels and units of the data."""
        batch = self._moved(self.data.batch(self.settings.seed, 0, min(len(self.data), most)))
        return batch | {name: getattr(self.data, name) for name in ("names", "levels", "units")}

    def _rows(self, step: int, turn: int, first: int, size: int) -> tuple[Batch, Tensor]:
        settings = self.settings
        first += step * settings.samples_a_step + turn * settings.batch
        index = torch.arange(first, first + size, device="cpu")
        batch = self._moved(self.data.batch(settings.seed, first, size))
        return batch, make_key(settings.seed, index, device=self.device)

    def _moved(self, batch: Batch) -> Batch:
        return {name: None if value is None else value.to(self.device) for name, value in batch.items()}
