"""What a run counts, on the device: the host reads it when something is due, all at once."""

from typing import NamedTuple

import torch
from torch import Tensor

SINCE = ("norm", "count")  # sums over the good steps since the last log, after a loss for each player
COUNTS = ("updates", "skipped", "in_row", "parameter", "broken")


class Reading(NamedTuple):
    """losses: of each player, and norm: means over the good steps since the last log, NaN of none.  updates, skipped:
    good and other steps of the run.  in_row: of the latter, those on end until now.  parameter: the first whose
    gradient was not finite in the last of them, -1 where it was none.  broken: the step after which weights were not
    finite, 0 for none."""

    losses: list[float]
    norm: float
    updates: int
    skipped: int
    in_row: int
    parameter: int
    broken: int


class Tally:
    """The numbers of a run, one float64 tensor on its device: `values`."""

    def __init__(self, players: int, device: torch.device):
        self.players = players
        self.values = torch.zeros(players + len(SINCE) + len(COUNTS), dtype=torch.float64, device=device)
        self.sums = self.values[: players + len(SINCE)]
        places = range(players + len(SINCE), len(self.values))
        self.at = {name: self.values[place] for name, place in zip(COUNTS, places)}
        self.unknown = torch.full((), -1.0, dtype=torch.float64, device=device)
        self.at["parameter"].fill_(-1)

    @property
    def updates(self) -> Tensor:
        """() float64: the good steps so far."""
        return self.at["updates"]

    @torch.no_grad()
    def add(self, losses: Tensor, norm: Tensor, good: Tensor, parameter: Tensor, finite: Tensor) -> None:
        """A step: losses (players,), norm (), good () bool, the first parameter with a bad gradient (), and whether
        all weights are finite, () bool."""
        one = good.double()
        step = torch.cat([losses.double(), torch.stack([norm.double(), one])])
        self.sums.add_(torch.where(good, step, 0.0))
        at = self.at
        at["updates"].add_(one)
        at["skipped"].add_(1 - one)
        at["in_row"].add_(1).mul_(1 - one)
        at["parameter"].copy_(torch.where(good, at["parameter"], parameter))
        now = at["updates"] + at["skipped"]
        at["broken"].copy_(torch.where(finite | (at["broken"] > 0), at["broken"], now))

    def read(self) -> Reading:
        """Waits for the device."""
        *sums, updates, skipped, in_row, parameter, broken = self.values.tolist()
        *losses, norm, count = sums
        means = [value / count if count else float("nan") for value in (*losses, norm)]
        return Reading(means[:-1], means[-1], *map(int, (updates, skipped, in_row, parameter, broken)))

    def logged(self) -> None:
        """Starts the means anew."""
        self.sums.zero_()
