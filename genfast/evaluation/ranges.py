"""Whether samples and data lie on one scale."""

import math

from torch import Tensor

from ..common import processes

MARGIN, SHARE = 0.1, 0.01  # of the other's range, and of the numbers that lie further outside
NEVER_NEGATIVE, CLEARLY_NEGATIVE = 0.0, -0.5  # the least number of the one, and of the other


class Seen:
    """The range of samples, and how many of their numbers lie outside that of the data, as they are drawn."""

    def __init__(self, data: Tensor):
        self.data, self.bounds = data, _bounds(data)
        self.low, self.high, self.outside, self.numbers = math.inf, -math.inf, 0, 0

    def add(self, x: Tensor) -> None:
        low, high = _bounds(x)
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.outside, self.numbers = self.outside + _outside(x, *self.bounds), self.numbers + x.numel()

    def warnings(self) -> tuple[str, ...]:
        """A sentence where a hundredth of the samples' numbers, or of the data's, lie outside the range of the others
        by more than a tenth of it, or where one of them is never negative and the other goes below -1/2."""
        parts = processes.gather([(self.low, self.high, self.outside, self.numbers)])
        lows, highs, outside, numbers = zip(*parts)
        if not sum(numbers):
            return ()
        low, high = min(lows), max(highs)
        beyond = sum(outside) >= SHARE * sum(numbers)
        behind = _outside(self.data, low, high) >= SHARE * self.data.numel()
        least = sorted((low, self.bounds[0]))
        if not (beyond or behind or (least[0] < CLEARLY_NEGATIVE and least[1] >= NEVER_NEGATIVE)):
            return ()
        ranges = [f"from {bounds[0]:.4g} to {bounds[1]:.4g}" for bounds in ((low, high), self.bounds)]
        return (f"the samples lie {ranges[0]}, the data {ranges[1]}: are they on one scale?",)


def _bounds(x: Tensor) -> tuple[float, float]:
    low, high = x.aminmax()
    return float(low), float(high)


def _outside(x: Tensor, low: float, high: float) -> int:
    margin = MARGIN * (high - low)
    return int(((x < low - margin) | (x > high + margin)).sum())
