"""The two-sample test: known accuracies, exact p-values, intervals."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from helpers import normal
from metric_sets import covers

from genfast.metrics import two_sample_test


class Threshold:
    """Says "sample" above one half, whatever it is fitted to."""

    def fit(self, x, label):
        assert isinstance(x, np.ndarray) and x.dtype == np.float32 and len(x) == len(label)
        assert set(label.tolist()) == {0, 1}

    def predict(self, x):
        return (x[:, 0] > 0.5).astype(int)


def shifted(n, m, shift, seed, d=2):
    x = normal(n, d, seed=2 * seed)
    x[:, 0] += shift
    return x, normal(m, d, seed=2 * seed + 1)


def test_extremes():
    x = normal(100, 3)
    apart = two_sample_test(x + 50, x)
    assert apart.value == 1 and apart.details["p_value"] == pytest.approx(2.0**-100) and apart.high == 1
    assert apart.low > 0.95
    same = two_sample_test(torch.ones(40, 2), torch.ones(40, 2), classifier=Threshold())
    assert same.value == 0.5


@pytest.mark.parametrize("right, trials", [(0, 10), (5, 10), (10, 10), (530, 1000), (25300, 50000)])
def test_p_value(right, trials):
    from scipy.stats import binom

    from genfast.metrics.two_sample import _at_least

    assert _at_least(right, trials) == pytest.approx(binom.sf(right - 1, trials, 0.5), rel=1e-9)


def test_intervals_of_a_known_accuracy():
    """N(1, 1) against N(0, 1), told apart at one half: right with probability Phi(1/2)."""
    truth = NormalDist().cdf(0.5)
    estimates = [two_sample_test(*shifted(200, 200, 1, seed), classifier=Threshold()) for seed in range(100)]
    assert 90 <= covers(estimates, truth) <= 99


def test_intervals_of_the_neighbors():
    """Of five neighbors out of 200, in two dimensions: 0.6431 is the mean over 4,000 other sets, +- 0.0006."""
    estimates = [two_sample_test(*shifted(200, 200, 1, seed), seed=seed) for seed in range(100)]
    assert 90 <= covers(estimates, 0.6431) <= 99
    assert np.mean([e.details["p_value"] < 0.05 for e in estimates]) > 0.9


def test_equal_distributions():
    estimates = [two_sample_test(*shifted(100, 100, 0, seed), seed=seed) for seed in range(200)]
    assert covers(estimates, 0.5) >= 0.9 * 200
    p = np.array([e.details["p_value"] for e in estimates])
    assert (p < 0.05).mean() < 0.1 and 0.35 < (p < 0.5).mean() < 0.6
    assert np.mean([e.value for e in estimates]) == pytest.approx(0.5, abs=3 * 0.05 / 200**0.5)


def test_unequal_sizes():
    found = two_sample_test(*shifted(60, 200, 1, 0))
    assert found.details["held_out"] == 60 and (found.n, found.m) == (60, 200)
    assert found.warnings == ("60 samples and 200 real ones: 60 of each were used",)
    assert two_sample_test(*shifted(61, 61, 1, 0)).details["held_out"] == 62
    assert not two_sample_test(*shifted(61, 61, 1, 0)).warnings


def test_seed():
    x, y = shifted(80, 80, 1, 0)
    assert two_sample_test(x, y, seed=1) == two_sample_test(x, y, seed=1)
    assert len({two_sample_test(x, y, seed=seed).value for seed in range(6)}) > 1


class Mute(Threshold):
    def predict(self, x):
        return np.zeros(3)


@pytest.mark.parametrize("n, options, words", [
    (1, {}, r"samples.*at least 2.*\(1, 2\)"), (4, {}, r"k.*at most 4.*5"), (9, {"k": 0}, "k.*0"),
    (9, {"classifier": Mute()}, r"classifier.*10 answers.*\(3,\)"), (9, {"level": math.nan}, "level.*nan"),
])  # fmt: skip
def test_bad_input(n, options, words):
    with pytest.raises(ValueError, match=words):
        two_sample_test(*shifted(n, n, 1, 0), **options)
