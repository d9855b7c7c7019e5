"""What all metrics have in common: names, seeds, threads, and what they say to bad input."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import normal

from genfast.metrics import METRICS, Estimate, kernel_distance, memorization, two_sample_test

OF_FEATURES = {name: metric.function for name, metric in METRICS.items() if metric.needs == ("samples", "real")}
OF_FEATURES["memorization"] = lambda x, y, seed=0, level=0.95: {"share": memorization(x, y, x + 1, level=level).share}
every_metric = pytest.mark.parametrize("name", OF_FEATURES)


def test_names():
    assert {"frechet", "kernel_distance", "precision_recall", "two_sample", "inception_score"} <= set(METRICS)
    for metric in METRICS.values():
        assert metric.better in ("lower", "higher", "near_half")
    found = [key for run in OF_FEATURES.values() for key in run(normal(40, 3, seed=1), normal(50, 3, seed=2))]
    assert len(found) == len(set(found)) and {"precision", "recall", "density", "coverage"} <= set(found)
    scores = METRICS["inception_score"].function(torch.eye(3).repeat(5, 1), seed=3, level=0.9)
    assert scores["inception_score"].level == 0.9


@every_metric
def test_the_same_for_arrays_seeds_and_threads(name):
    x, y = normal(64, 5, seed=1).float(), normal(70, 5, seed=2).float() + 0.2
    found = OF_FEATURES[name](x, y, seed=5, level=0.9)
    assert all(isinstance(e, Estimate) and (e.n, e.level) == (64, 0.9) for e in found.values())
    assert OF_FEATURES[name](x.numpy(), y.numpy(), seed=5, level=0.9) == found
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    single = OF_FEATURES[name](x, y.requires_grad_(), seed=5, level=0.9)
    torch.set_num_threads(threads)
    for key, e in found.items():
        assert (single[key].value, single[key].low) == pytest.approx((e.value, e.low), rel=1e-9, abs=1e-12)
        assert all(isinstance(v, float) for v in (e.value, e.low, e.high, *e.details.values()))


@pytest.mark.parametrize("name", [name for name in OF_FEATURES if name != "memorization"])
def test_seeds(name):
    x, y = normal(40, 3, seed=1), normal(50, 3, seed=2)
    assert OF_FEATURES[name](x, y, seed=np.int64(7)) == OF_FEATURES[name](x, y, seed=7)
    OF_FEATURES[name](x, y, seed=2**63 - 1)
    for seed in (-1, 2**63, 2**70, True, 0.5):
        with pytest.raises(ValueError, match=r"seed must be an integer from 0 to .*; got"):
            OF_FEATURES[name](x, y, seed=seed)


@every_metric
def test_global_random_state_is_left_alone(name):
    torch.manual_seed(1), np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    OF_FEATURES[name](normal(40, 3, seed=1), normal(50, 3, seed=2), seed=2)
    assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()


@every_metric
@pytest.mark.parametrize("y, error, words", [
    (torch.zeros(9), ValueError, r"\(N, D\).*\(9,\)"), (torch.zeros(9, 3), ValueError, "2 features.*3"),
    (torch.zeros(9, 2, dtype=torch.int64), TypeError, "int64"), ([[0.0, 0.0]] * 9, TypeError, "list"),
    (torch.full((9, 2), float("inf")), ValueError, "infinity"), (torch.full((9, 2), float("nan")), ValueError, "NaN"),
    (torch.zeros(0, 2), ValueError, r"at least.*\(0, 2\)"),
])  # fmt: skip
def test_bad_input(name, y, error, words):
    second = "train" if name == "memorization" else "real"
    with pytest.raises(error, match=f"{second}.*{words}"):
        OF_FEATURES[name](normal(9, 2), y)


@pytest.mark.parametrize("name", [name for name in OF_FEATURES if name != "frechet"])
def test_beyond_float32(name):
    """Features that are finite in float64, but not where they are compared."""
    with pytest.raises(ValueError, match=r"samples.*finite.*float32"):
        OF_FEATURES[name](torch.full((9, 2), 1e200, dtype=torch.float64), normal(9, 2))


OF_DISTANCES = {name: OF_FEATURES[name] for name in ("precision_recall", "two_sample")}
OF_DISTANCES["memorization"] = lambda x, y: {"share": memorization(x, y, x.flip(1)).share}
OF_DISTANCES["rbf"] = lambda x, y: {"rbf": kernel_distance(x, y, kernel="rbf")}


@pytest.mark.parametrize("place", [1e8, -1e12, -3e9])
@pytest.mark.parametrize("name", OF_DISTANCES)
def test_float64_far_from_the_origin(name, place):
    """In float32 the spread would be lost; one sample that is far from all others does not move the origin."""
    x, y = normal(200, 4, seed=1), normal(200, 4, seed=2) + 0.5
    x[0], y[0] = 1e6, -1e6
    near, far = OF_DISTANCES[name](x, y), OF_DISTANCES[name](x + place, y + place)
    for key, e in near.items():
        assert (far[key].value, far[key].low) == pytest.approx((e.value, e.low), rel=2e-3, abs=1e-3)


@pytest.mark.parametrize("unit", [1e-60, 1e-30, 1e30, 1e60])
@pytest.mark.parametrize("name", OF_DISTANCES)
def test_float64_of_any_size(name, unit):
    """Beyond what float32 holds, or holds the square of."""
    x, y = normal(100, 4, seed=1), normal(100, 4, seed=2) + 0.5
    found, other = OF_DISTANCES[name](x, y), OF_DISTANCES[name](x * unit, y * unit)
    for key, e in found.items():
        assert (other[key].value, other[key].low) == pytest.approx((e.value, e.low), rel=1e-5)
    if name == "rbf":
        gammas = (one["rbf"].details["gamma"] for one in (found, other))
        assert next(gammas) == pytest.approx(next(gammas) * unit**2, rel=1e-6)


def test_distances_are_in_the_unit_of_the_data():
    x, train, held_out = (1e40 * normal(50, 4, seed=seed) for seed in (1, 2, 3))
    found = memorization(x, train, held_out).distance
    assert torch.allclose(found, torch.cdist(x, train).amin(1), rtol=1e-6)


def test_what_float32_cannot_hold_is_refused_where_the_origin_counts():
    """By the polynomial kernel, and by a classifier of one's own."""
    x, y = normal(50, 2, seed=1) + 1e8, normal(50, 2, seed=2) + 1e8
    words = r"samples and real must have a spread that float32 holds; got one of .* subtract a common mean"
    for run in (
        kernel_distance,
        lambda x, y: two_sample_test(x, y, classifier=SimpleNamespace(fit=print, predict=print)),
    ):
        with pytest.raises(ValueError, match=words):
            run(x, y)
    kernel_distance(x - 1e8, y - 1e8)


@pytest.mark.parametrize("name", OF_DISTANCES)
def test_copies_but_for_rounding_are_copies(name):
    """As a network in float64 makes them: float32 need not tell them apart."""
    x, y = (normal(60, 4, seed=seed).repeat(2, 1) for seed in (1, 2))
    OF_DISTANCES[name](x, y + 1e-14 * normal(120, 4, seed=3))


@pytest.mark.parametrize("name", OF_DISTANCES)
def test_clusters_too_far_from_each_other_are_refused(name):
    """No origin is near to both."""
    x, y = (normal(100, 4, seed=seed) + 1e9 * (torch.arange(100) % 2)[:, None] for seed in (1, 2))
    with pytest.raises(
        ValueError, match=r"samples and (real|train and held_out) must have a spread that float32 holds"
    ):
        OF_DISTANCES[name](x, y)


def test_imports_are_cheap():
    """No scipy, scikit-learn or matplotlib comes with the metrics."""
    program = "import sys, genfast.metrics; print([m for m in ('scipy', 'sklearn', 'matplotlib') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
