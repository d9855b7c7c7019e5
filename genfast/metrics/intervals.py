"""Intervals, each a pair (low, high), of z standard errors."""

import math
from statistics import NormalDist

from ..common.checks import require_number


def quantile(level: float, degrees: float = math.inf) -> float:
    """z with P(|T| <= z) = level for T of Student's t distribution; of N(0, 1) with infinite degrees of freedom.

    To first order in 1 / degrees (Abramowitz & Stegun 26.7.5), which at 10 degrees and a level of 0.95 gives 2.20 for
    2.23. Raises ValueError for a level outside (0, 1).
    """
    level = require_number("level", level, above=0, below=1)
    z = NormalDist().inv_cdf((1 + level) / 2)
    return z + (z**3 + z) / (4 * degrees)


def normal(value: float, se: float, z: float) -> tuple[float, float]:
    """value -+ z se."""
    return value - z * se, value + z * se


def growing(value: float, fixed: float, growth: float, z: float) -> tuple[float, float]:
    """Of an estimate whose variance for a truth mu is fixed + growth max(mu, 0): the mu that it would not reject,
    (value - mu)^2 <= z^2 variance."""
    at_zero = z * math.sqrt(fixed)
    center = value + z**2 * growth / 2
    reach = z * math.sqrt(max(fixed + growth * value + (z * growth / 2) ** 2, 0.0))
    low = center - reach if value > at_zero else value - at_zero
    high = center + reach if value >= -at_zero else value + at_zero
    return low, high


def wilson(share: float, n: float, z: float, variance: float = 0.0) -> tuple[float, float]:
    """Of a binomial share out of n trials, which need not be whole: the p that they would not reject,
    (share - p)^2 <= z^2 (p (1 - p) / n + variance), with a variance from elsewhere. Wilson 1927."""
    scale = 1 + z**2 / n
    center = share + z**2 / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2) + variance * scale)
    low, high = (center - reach) / scale, (center + reach) / scale
    return 0.0 if share == 0 else max(low, 0.0), 1.0 if share == 1 else min(high, 1.0)


def wilson_of_variance(share: float, variance: float, n: int, z: float) -> tuple[float, float]:
    """Of a share whose variance is not share (1 - share) / n: Wilson's, at the number of independent trials that would
    have this variance; at n trials where the share is 0 or 1 or the variance 0."""
    binomial = share * (1 - share)
    return wilson(share, binomial / variance if binomial > 0 and variance > 0 else n, z)
