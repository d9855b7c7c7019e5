"""The study likelihood-vs-samples: the bound of the noisy mixture, the copier's density and samples, a small run."""

import math

import pytest
import torch

import genfast as gf
from genfast.studies import likelihood_vs_samples as study


@pytest.fixture(scope="module")
def fitted():
    return study.models(gf.data.digits("train"), seed=0)


def test_noise_costs_at_most_log_100(fitted):
    """At every x; and just that where noise has no density to add."""
    good, noisy = fitted[study.GOOD], fitted[study.NOISY]
    x = torch.cat([gf.data.digits("test").x, torch.randn(50, 1, 8, 8), good.sample(50, seed=3)])
    loss = good.log_prob(x) - noisy.log_prob(x)
    assert loss.max() <= math.log(100) + 1e-9 and loss.min() < -10
    likely = good.log_prob(x) > 20
    assert likely.sum() > 100 and torch.allclose(loss[likely], torch.tensor(math.log(100)).double(), atol=1e-3)


def test_one_sample_in_a_hundred_is_of_the_good_model(fitted):
    """A count of mean 40 and standard deviation 6.3: N(0, I) hardly ever draws what the good model finds likely."""
    good, noisy = fitted[study.GOOD], fitted[study.NOISY]
    count = int((good.log_prob(noisy.sample(4000, seed=0)) > -50).sum())
    assert abs(count - 40) < 4 * 6.3
    assert (good.log_prob(good.sample(500, seed=0)) > -50).all()


def test_the_copier(fitted):
    """Its density is that of kernels around the training digits; a sample is one of these but for their noise."""
    train, x = gf.data.digits("train").x.double().flatten(1), gf.data.digits("test").x[:20].double()
    squares = torch.cdist(x.flatten(1), train).square()
    expected = torch.logsumexp(-squares / (2 * study.KERNEL**2), 1) - math.log(len(train))
    expected = expected - 32 * math.log(2 * math.pi * study.KERNEL**2)
    assert torch.allclose(fitted[study.COPIER].log_prob(x), expected, rtol=1e-9)
    nearest = torch.cdist(fitted[study.COPIER].sample(500, seed=0).double().flatten(1), train).min(1).values
    squared = nearest.square() / study.KERNEL**2  # chi-squared with 64 degrees of freedom
    assert abs(squared.mean() - 64) < 4 * (128 / 500) ** 0.5


@pytest.mark.slow
def test_what_it_finds():
    finding = study.study(seed=0, progress=False, held_out=200)
    assert finding.holds, str(finding)
    rows = {row[0]: row for row in finding.rows}
    assert rows[study.COPIER][-1] > 0.95 and rows[study.GOOD][-1] < 0.05 and rows[study.NOISY][4] < 0.05
    assert finding.picture().startswith(b"\x89PNG")
