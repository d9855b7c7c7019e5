"""The study bias-variance: its generative classifier, the crossing of two known lines, and a small run."""

import math

import numpy as np
import pytest
import torch

from genfast.studies import bias_variance


def gaussian(count, seed):
    """Two classes of the generative classifier's own assumptions: its bias is 0."""
    generator = torch.Generator().manual_seed(seed)
    label = (torch.rand(count, generator=generator) < 0.4).long()
    scale = torch.linspace(0.5, 2, 10, dtype=torch.float64)
    x = scale * torch.randn(count, 10, generator=generator, dtype=torch.float64) + label.unsqueeze(1)
    return x, label


def test_the_generative_one_has_linear_log_odds():
    """log p(1 | x) - log p(0 | x) = w.x + b with w = (m_1 - m_0) / v."""
    x, label = gaussian(200, seed=0)
    found = bias_variance.gaussian_classes(x, label)
    means = [x[label == k].mean(0) for k in (0, 1)]
    pooled = sum(((x[label == k] - means[k]) ** 2).sum(0) for k in (0, 1)) / 198
    joint = found.log_joint(x)
    slope = (means[1] - means[0]) / pooled
    offset = (joint[:, 1] - joint[:, 0]) - x @ slope
    assert offset.std() < 1e-10
    counts = torch.bincount(label).double()
    expected = (counts[1] / counts[0]).log() - ((means[1] ** 2 - means[0] ** 2) / pooled).sum() / 2
    assert float(offset[0]) == pytest.approx(float(expected), abs=1e-9)


def test_without_a_bias_the_generative_one_is_not_overtaken():
    """Where its assumptions hold it is at least as good at every n (Efron 1975), and both end at Bayes' error."""
    test = gaussian(20_000, seed=1)
    errors = {}
    for n in (20, 2000):
        trials = [bias_variance.errors(gaussian(n, seed=10 + number), test)[:2] for number in range(8)]
        errors[n] = np.mean(trials, 0)
    assert errors[20][0] < errors[20][1] - 0.02
    assert -0.002 < errors[2000][1] - errors[2000][0] < 0.005


def test_the_crossing_is_interpolated_in_log_n():
    sizes = np.array([10, 100, 1000])
    assert bias_variance.crossing(sizes, np.log10(sizes) - 1.5) == pytest.approx(10**1.5)
    assert math.isnan(bias_variance.crossing(sizes, np.ones(3)))


def test_a_resample_has_every_class_and_tests_on_others():
    for problem in bias_variance.problems(seed=0):
        train, test = bias_variance.resample(problem, problem.sizes[0], seed=0, number=3)
        assert len(train) == problem.sizes[0] and not set(train) & set(test)
        assert set(problem.label[train].tolist()) == set(problem.label.tolist())
        assert problem.sizes[-1] + len(problem.x) // 3 <= len(problem.x)


@pytest.mark.slow
def test_what_it_finds():
    finding = bias_variance.study(seed=0, progress=False, repeats=4)
    assert finding.picture().startswith(b"\x89PNG") and [row[0] for row in finding.rows].count("digits") == 4
    for name in ("tumours", "digits"):
        rows = [row for row in finding.rows if row[0] == name]
        assert sum(row[5] for row in rows[:3]) < 0 < rows[-1][5]
