"""What every metric answers with: a value and how sure it is."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Estimate:
    """A number with an interval.

    value      the estimate.  low, high: the interval, which covers the truth in `level` of all repeats
    method     how the interval was made, in a few words: "delta method", "Wilson", ...
    n          how many samples it was made from;  m: how many real ones, None where none were needed
    details    further numbers by name: a bias, an extrapolation, a p-value; "under_equality", where the metric knows it
               exactly, is what to expect of two sets from one distribution
    warnings   what the reader must know, a sentence each
    """

    value: float
    low: float
    high: float
    method: str
    n: int
    m: int | None = None
    level: float = 0.95
    details: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __float__(self) -> float:
        return float(self.value)

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"
