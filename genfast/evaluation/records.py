"""One number of a report, and what real data are given in its place."""

import dataclasses
import math
from collections.abc import Sequence

from ..metrics import Estimate


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A metric of real data against real data: what a perfect model would be given.

    value, low, high: means over `splits` repeats of the value and its interval, which is about `Record.center`.
    n against m samples, None where none are needed; kind: which data.
    """

    value: float
    low: float
    high: float
    n: int
    m: int | None
    splits: int
    kind: str


def has_interval(found: Estimate | Baseline) -> bool:
    """Whether its interval says anything: one with a limit that is infinite or NaN does not."""
    return math.isfinite(found.low) and math.isfinite(found.high)


@dataclasses.dataclass(frozen=True)
class Record:
    """One number of a report.  better: "lower", "higher" or another word of `metrics.Metric`."""

    name: str
    better: str
    estimate: Estimate
    baseline: Baseline | None = None

    @property
    def value(self) -> float:
        return self.estimate.value

    @property
    def extrapolated(self) -> bool:
        """Whether the interval is about what the value becomes for infinite n, which the metric says in its details."""
        return "extrapolated" in self.estimate.details

    @property
    def center(self) -> float:
        """What the interval is about."""
        return self.estimate.details["extrapolated"] if self.extrapolated else self.value

    @property
    def null(self) -> float | None:
        """What the metric expects, exactly, of two sets from one distribution; None where it knows no such number."""
        details = self.estimate.details
        return details.get("under_equality", details.get("expected"))

    @property
    def reference(self) -> float:
        """The value of real data; without a baseline, the null."""
        return self.null if self.baseline is None else self.baseline.value

    @property
    def worse_than_data(self) -> bool | None:
        """Whether the whole interval is on the wrong side of that of real data; None without a baseline, or where one
        of the two says nothing. By chance it is so far less often than 1 - level: the two have to be apart, each with
        its own noise."""
        if self.baseline is None or not has_interval(self.baseline):
            return None
        return self._beyond(self.baseline.low, self.baseline.high)

    @property
    def worse(self) -> bool | None:
        """Whether the whole interval is on the wrong side of that of real data, or of the null, which by chance it is
        in (1 - level) / 2 of all repeats; None without either, or where it says nothing."""
        of_null = None if self.null is None else self._beyond(self.null, self.null)
        found = [one for one in (self.worse_than_data, of_null) if one is not None]
        return any(found) if found else None

    def _beyond(self, low: float, high: float) -> bool | None:
        e = self.estimate
        above, below = e.low > high, e.high < low
        return {"lower": above, "higher": below}.get(self.better, above or below) if has_interval(e) else None

    @property
    def apart(self) -> bool | None:
        """Whether it tells the samples from real data: they are worse, or the null is outside of the interval, on its
        better side too, as for samples that are copies of the data. None as for `worse`."""
        if self.null is None or not has_interval(self.estimate):
            return self.worse
        return self.worse or not self.estimate.low <= self.null <= self.estimate.high


def by_name(records: Sequence[Record], name: str) -> Record:
    """Raises KeyError with the names that there are."""
    for record in records:
        if record.name == name:
            return record
    raise KeyError(f"no {name!r} in this report; it has {', '.join(record.name for record in records)}")


@dataclasses.dataclass(frozen=True)
class ClassRecord:
    """The samples asked for as class `label` (n) against the data of that class (m); no records where n or m is 0."""

    label: int
    n: int
    m: int
    records: tuple[Record, ...]

    def __getitem__(self, name: str) -> Record:
        return by_name(self.records, name)
