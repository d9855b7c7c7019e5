"""Precision, recall, density and coverage: brute force, expectations under equality, broken models, intervals."""

import itertools
import math

import numpy as np
import pytest
import torch
from helpers import normal
from metric_sets import covers

from genfast.metrics import precision_recall
from genfast.metrics.precision_recall import NAMES, _four


def values(x, y, **options):
    return {name: estimate.value for name, estimate in precision_recall(x, y, **options).items()}


def brute_force(x, y, k):
    x, y = x.double().numpy(), y.double().numpy()

    def squared(a, b):
        return ((a[:, None] - b) ** 2).sum(-1)

    def radius(z):
        distances = squared(z, z)
        np.fill_diagonal(distances, np.inf)
        return np.sort(distances, 1)[:, k - 1]

    in_real, in_samples = squared(x, y) <= radius(y), squared(x, y) <= radius(x)[:, None]
    return {
        "precision": in_real.any(1).mean(),
        "recall": in_samples.any(0).mean(),
        "density": in_real.sum(1).mean() / k,
        "coverage": in_real.any(0).mean(),
    }


def grid(n, d, levels, seed):
    """Points of a grid: many distances are equal."""
    return (normal(n, d, seed=seed).clamp(-2, 2) * levels).round().float()


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("x, y", [
    (normal(60, 3, seed=1).float(), normal(45, 3, seed=2).float() + 0.3), (grid(80, 2, 3, 1), grid(50, 2, 3, 2)),
    (grid(60, 1, 40, 3), grid(90, 1, 40, 4)), (grid(15, 2, 4, 5).repeat(20, 1), grid(12, 2, 4, 6).repeat(20, 1)),
], ids=["continuous", "ties", "line", "duplicates"])  # fmt: skip
def test_brute_force(x, y, k):
    assert values(x, y, k=k) == brute_force(x, y, k)


def test_identical_sets_with_duplicates():
    """Every ball has radius 0 and holds its 20 copies: with < instead of <= all four would be 0."""
    x = normal(10, 4).repeat(20, 1)
    found = precision_recall(x, x)
    assert {name: e.value for name, e in found.items()} == dict(zip(NAMES, (1, 1, 4, 1)))
    assert any("200 of 200 samples have an exact copy" in warning for warning in found["density"].warnings)
    assert any("200 of 200 real ones" in warning for warning in found["density"].warnings)


def test_equal_distributions():
    """Density is 1 and coverage 1 - prod (M - i) / (M + N - i) on average; which of N and M is the real one counts."""
    n, m, k = 60, 40, 3
    found = precision_recall(normal(n, 3, seed=1), normal(m, 3, seed=2), k=k)
    expected = 1 - math.prod((m - i) / (m + n - i) for i in range(1, k + 1))
    assert found["coverage"].details["under_equality"] == pytest.approx(expected, rel=1e-12)
    assert found["density"].details["under_equality"] == 1
    repeats = torch.stack(
        [_four(normal(n, 3, seed=2 * i).float(), normal(m, 3, seed=2 * i + 1).float(), k)[0] for i in range(400)]
    )
    for name, truth in (("density", 1.0), ("coverage", expected)):
        values = repeats[:, NAMES.index(name)]
        assert abs(values.mean() - truth) < 3 * values.std() / 400**0.5, name


@pytest.mark.parametrize("k, expected", [(3, 0.786), (5, 0.870), (10, 0.943)])
def test_equal_distributions_have_no_perfect_precision(k, expected):
    """16 dimensions, 800 points: as measured elsewhere, in float64 by brute force."""
    found = values(normal(800, 16, seed=1), normal(800, 16, seed=2), k=k)
    assert (found["precision"] + found["recall"]) / 2 == pytest.approx(expected, abs=0.025)


def clusters(n, kept, seed, d=16):
    """n points of `kept` of ten well separated clusters."""
    which = np.random.default_rng(seed).integers(kept, size=n)
    return normal(n, d, seed=seed) + 8 * torch.eye(10, d, dtype=torch.float64)[which]


def test_dropped_modes():
    """Coverage is the share of real ones that the samples know of, recall a little less; precision hardly cares."""
    real = clusters(500, 10, 1)
    for kept in (10, 7, 5, 1):
        found = precision_recall(clusters(500, kept, 2 + kept), real)
        share = kept / 10
        assert found["coverage"].value == pytest.approx(0.965 * share, abs=0.06)
        assert found["recall"].value == pytest.approx(0.93 * share, abs=0.06)
        assert found["precision"].value > 0.8
        assert found["recall"].low <= found["recall"].value <= found["recall"].high


def test_junk():
    """Precision falls with its share. Far junk does nothing else; diffuse junk has large balls, which raise recall."""
    real, good = normal(300, 16, seed=1), normal(300, 16, seed=2)
    plain = values(good, real)
    for count in (30, 300):
        far = values(torch.cat([good, 100 + normal(count, 16, seed=3)]), real)
        diffuse = values(torch.cat([good, 3 * normal(count, 16, seed=3)]), real)
        assert far["precision"] == pytest.approx(plain["precision"] * 300 / (300 + count), rel=1e-12)
        assert far["recall"] == plain["recall"] and far["coverage"] == plain["coverage"]
        assert diffuse["precision"] == pytest.approx(far["precision"], abs=0.02)
        assert diffuse["recall"] > plain["recall"] + 0.02


# Expectations of 400 samples against 400 or 300 real ones in 4 dimensions, k = 5: of coverage and density under
# equality in closed form, of the others the means over 4,000 to 7,000 sets, their standard errors below 0.0004.
TRUTH = {
    "equal": (0.9759, 0.9759, 1.0, 1 - math.prod((400 - i) / (800 - i) for i in range(1, 6))),
    "shifted": (0.9889, 0.8708, 1.0895, 0.8916),
}


def sets(case, seed):
    if case == "equal":
        return normal(400, 4, seed=2 * seed), normal(400, 4, seed=2 * seed + 1)
    return 0.8 * normal(400, 4, seed=2 * seed) + 0.4, normal(300, 4, seed=2 * seed + 1)


@pytest.mark.slow
@pytest.mark.parametrize("case", TRUTH)
def test_intervals_cover(case):
    """Over fresh samples and fresh real ones, for which Wilson's interval at N or M trials is too short."""
    found = [precision_recall(*sets(case, seed), seed=seed) for seed in range(100)]
    for name, truth in zip(NAMES, TRUTH[case]):
        estimates = [f[name] for f in found]
        assert 90 <= covers(estimates, truth) <= 99, name
        spread = np.std([e.value for e in estimates])
        assert np.mean([e.details["se"] ** 2 for e in estimates]) ** 0.5 == pytest.approx(spread, rel=0.25), name


def test_small_sets():
    """k + 1 points are enough for a number, twice as many for an interval."""
    found = precision_recall(normal(6, 2, seed=1), normal(40, 2, seed=2))
    for name, e in found.items():
        assert e.low == 0 and e.high == (40 / 5 if name == "density" else 1)
        assert "6 rows are too few" in e.warnings[0]
    halved = precision_recall(normal(12, 2, seed=1), normal(40, 2, seed=2))
    assert not halved["recall"].warnings and halved["recall"].low > 0


def test_seed_order_and_symmetry():
    x, y = normal(50, 3, seed=1), normal(70, 3, seed=2) + 0.5
    found = precision_recall(x, y, seed=3)
    assert precision_recall(x, y, seed=3) == found
    assert values(x.flip(0), y.roll(9, 0)) == {name: e.value for name, e in found.items()}
    swapped = values(y, x)
    assert (swapped["precision"], swapped["recall"]) == (found["recall"].value, found["precision"].value)
    for first, second in itertools.pairwise([precision_recall(x, y, level=level) for level in (0.5, 0.9, 0.99)]):
        for name in NAMES:
            assert second[name].low <= first[name].low <= first[name].value <= first[name].high <= second[name].high


@pytest.mark.parametrize("n, m, options, words", [
    (5, 9, {}, r"samples.*at least 6.*\(5, 2\)"), (9, 3, {"k": 3}, r"real.*at least 4.*\(3, 2\)"),
    (9, 9, {"k": 0}, "k.*0"), (9, 9, {"level": 0}, r"level.*\(0, 1\).*0"), (9, 9, {"seed": 0.5}, "seed.*0.5"),
])  # fmt: skip
def test_bad_input(n, m, options, words):
    with pytest.raises(ValueError, match=words):
        precision_recall(normal(n, 2, seed=1), normal(m, 2, seed=2), **options)
