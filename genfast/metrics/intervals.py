"""Intervals, each a pair (low, high)."""

import math
from numbers import Real
from statistics import NormalDist


def quantile(level: float) -> float:
    """z with P(|Z| <= z) = level for Z from N(0, 1). Raises ValueError for a level outside (0, 1)."""
    if isinstance(level, bool) or not isinstance(level, Real) or not 0 < level < 1:
        raise ValueError(f"level: expected a number in (0, 1), got {level!r}")
    return NormalDist().inv_cdf((1 + level) / 2)


def normal(value: float, se: float, level: float) -> tuple[float, float]:
    """value -+ z se."""
    reach = quantile(level) * se
    return value - reach, value + reach


def wilson(share: float, n: float, level: float) -> tuple[float, float]:
    """Of a binomial share out of n trials, which need not be whole: the p that n trials would not reject.

    (share + z^2 / 2n -+ z (share (1 - share) / n + z^2 / 4n^2)^(1/2)) / (1 + z^2 / n). Wilson 1927.
    """
    z = quantile(level)
    centre = share + z**2 / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = (centre - reach) / (1 + z**2 / n), (centre + reach) / (1 + z**2 / n)
    return 0.0 if share == 0 else max(low, 0.0), 1.0 if share == 1 else min(high, 1.0)


def share(value: float, variance: float, n: int, level: float) -> tuple[float, float]:
    """Of a share whose variance is not value (1 - value) / n: Wilson's, at the number of independent trials that would
    have this variance, value (1 - value) / variance; at n trials where the share is 0 or 1 or the variance 0."""
    binomial = value * (1 - value)
    return wilson(value, binomial / variance if binomial > 0 and variance > 0 else n, level)
