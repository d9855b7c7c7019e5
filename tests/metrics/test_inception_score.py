"""The inception score of classifiers whose score is known."""

import numpy as np
import pytest
import torch
from metric_sets import covers

from genfast.metrics import inception_score


def answers(prior, sure, n, seed):
    """Of a classifier that gives one class `sure` and the others even shares of the rest; and its exp E KL."""
    k = len(prior)
    table = torch.full((k, k), (1 - sure) / (k - 1), dtype=torch.float64).fill_diagonal_(sure)
    prior = torch.tensor(prior, dtype=torch.float64)
    divergence = (table * (table / (prior @ table)).log()).nan_to_num(0).sum(1)
    drawn = torch.multinomial(prior, n, replacement=True, generator=torch.Generator().manual_seed(seed))
    return table[drawn], (prior @ divergence).exp().item()


def test_extremes():
    """Balanced and sure: K, to rounding.  Constant: 1, with nothing left open."""
    assert inception_score(torch.eye(10).repeat(20, 1)).value == pytest.approx(10, rel=1e-12)
    constant = inception_score(torch.full((50, 4), 0.25))
    assert (constant.value, constant.low, constant.high) == (1, 1, 1)
    one_class = inception_score(torch.eye(3)[:1].repeat(40, 1))
    assert (one_class.value, one_class.low, one_class.high) == (1, 1, 1)


@pytest.mark.parametrize("prior, sure", [
    ([0.4, 0.3, 0.2, 0.1], 0.9), ([0.7, 0.1, 0.1, 0.1], 1.0), ([0.25] * 4, 0.8), ([0.1] * 10, 0.95),
])  # fmt: skip
def test_interval_covers(prior, sure):
    """With equal priors too, where the first order of the logarithm vanishes and its bias is as large as its spread."""
    estimates = []
    for seed in range(100):
        p, truth = answers(prior, sure, 300, seed)
        estimates.append(inception_score(p))
    logs = np.log([e.details["extrapolated"] for e in estimates])
    degenerate = len(set(prior)) == 1
    assert 90 <= covers(estimates, truth) <= (100 if degenerate else 99)
    assert abs(logs.mean() - np.log(truth)) < 3 * logs.std() / 10
    assert np.mean([e.details["se"] for e in estimates]) == pytest.approx(logs.std(), rel=0.4 if degenerate else 0.25)
    bias = np.mean(np.log([e.value for e in estimates])) - np.log(truth)
    assert bias == pytest.approx(np.mean([e.details["bias"] for e in estimates]), abs=3 * logs.std() / 10)


def test_bias_of_a_sure_classifier():
    p, _ = answers([0.25] * 4, 1.0, 4000, 0)
    assert inception_score(p).details["bias"] == pytest.approx(-3 / 8000, rel=1e-2)


def test_rows_are_taken_as_probabilities():
    p, _ = answers([0.4, 0.3, 0.2, 0.1], 0.9, 300, 0)
    found = inception_score(p)
    assert inception_score(p.float().numpy()).value == pytest.approx(found.value, rel=1e-6)
    assert inception_score(p[torch.arange(299, -1, -1)]).value == pytest.approx(found.value, rel=1e-12)
    assert inception_score(p, level=0.5).high - inception_score(p, level=0.5).low < found.high - found.low


@pytest.mark.parametrize("p, error, words", [
    (torch.tensor([[0.5, 0.5], [0.5, 0.6]]), ValueError, "rows that sum to 1; got 1.1 in row 1"),
    (torch.tensor([[1.5, -0.5], [0.5, 0.5]]), ValueError, "at least 0; got -0.5"),
    (torch.tensor([[1, 0], [0, 1]]), TypeError, "probabilities.*int64"),
    (torch.ones(1, 1), ValueError, "probabilities.*at least 2"),
])  # fmt: skip
def test_bad_input(p, error, words):
    with pytest.raises(error, match=words):
        inception_score(p)
