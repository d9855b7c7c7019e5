"""Intervals against scipy's, and the equations that define them."""

import math

import numpy as np
import pytest

from genfast.metrics import intervals


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_quantiles(level):
    from scipy import stats

    assert intervals.quantile(level) == pytest.approx(stats.norm.ppf((1 + level) / 2), rel=1e-12)
    assert intervals.quantile(level, 20) == pytest.approx(stats.t.ppf((1 + level) / 2, 20), rel=0.01)


@pytest.mark.parametrize("level", [0, 1, -0.1, 95, True, "0.95", math.nan])
def test_bad_level(level):
    with pytest.raises(ValueError, match=r"level.*\(0, 1\)"):
        intervals.quantile(level)


@pytest.mark.parametrize("right, n", [(0, 10), (3, 10), (10, 10), (499, 1000)])
def test_wilson(right, n):
    from scipy.stats import binomtest

    expected = binomtest(right, n).proportion_ci(0.9, method="wilson")
    found = intervals.wilson(right / n, n, intervals.quantile(0.9))
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_with_a_variance_from_elsewhere():
    """Its ends are the p at which the deviation is z standard deviations; none is the plain interval."""
    for p in intervals.wilson(0.3, 50, 2.0, 0.001):
        assert (0.3 - p) ** 2 == pytest.approx(4 * (p * (1 - p) / 50 + 0.001), rel=1e-9)
    assert intervals.wilson_of_variance(0.3, 0.3 * 0.7 / 50, 80, 2.0) == pytest.approx(intervals.wilson(0.3, 50, 2.0))
    assert intervals.wilson_of_variance(1.0, 0.0, 80, 2.0) == intervals.wilson(1.0, 80, 2.0)


@pytest.mark.parametrize("value", [-3.0, -0.5, 0.0, 0.5, 1.9, 2.1, 8.0])
def test_a_variance_that_grows(value):
    """The ends, by the equation; continuous where it changes its form."""
    low, high = intervals.growing(value, 1.0, 0.5, 2.0)
    assert low < value < high
    for mu in (low, high):
        assert (value - mu) ** 2 == pytest.approx(4 * (1 + 0.5 * max(mu, 0)), rel=1e-9)
    nearby = intervals.growing(value + 1e-9, 1.0, 0.5, 2.0)
    assert np.allclose(nearby, (low, high), atol=1e-6)
    assert intervals.growing(value, 1.0, 0.0, 2.0) == intervals.normal(value, 1.0, 2.0)
