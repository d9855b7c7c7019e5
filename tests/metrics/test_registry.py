"""What all metrics have in common: names, seeds, threads, and what they say to bad input."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import normal

from genfast.metrics import METRICS, Estimate, memorization

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


def test_imports_are_cheap():
    """No scipy, scikit-learn or matplotlib comes with the metrics."""
    program = "import sys, genfast.metrics; print([m for m in ('scipy', 'sklearn', 'matplotlib') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
