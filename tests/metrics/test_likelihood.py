"""Mean likelihoods with intervals, and importance-weighted bounds of a linear-Gaussian model."""

import math

import numpy as np
import pytest
import torch
from helpers import normal
from metric_sets import covers

from genfast.metrics import ImportanceWeights, likelihood


def test_units():
    nats = -3.0 + normal(50, 1)[:, 0]
    found = likelihood(nats, 4, bits_offset=7)
    assert found["nats"].value == pytest.approx(nats.mean().item())
    bits = found["bits_per_dim"]
    for name, other in (("value", "value"), ("low", "high"), ("high", "low")):
        assert getattr(bits, name) == pytest.approx(7 - getattr(found["nats"], other) / (4 * math.log(2)))
    assert bits.low < bits.value < bits.high
    assert bits.details["se"] == pytest.approx(found["nats"].details["se"] / (4 * math.log(2)))
    uniform = likelihood(torch.full((5,), -3 * math.log(2)), 3, bits_offset=7)["bits_per_dim"]
    assert uniform.value == pytest.approx(8)  # a uniform density on [-1, 1]^3 is worth 256 levels


def test_interval_covers():
    """The mean over fresh data, with noise in every log-likelihood: it is part of their spread, and not added twice."""
    truth = -3 * (1 + math.log(2 * math.pi)) / 2
    estimates = []
    for seed in range(100):
        x, noise = normal(150, 3, seed=2 * seed), normal(150, 1, seed=2 * seed + 1)[:, 0]
        nats = -(x.square().sum(1) + 3 * math.log(2 * math.pi)) / 2 + noise
        estimates.append(likelihood(nats, 3, se=torch.ones(150))["nats"])
    assert 90 <= covers(estimates, truth) <= 99
    assert estimates[0].details["se_of_estimates"] == pytest.approx(150**-0.5)
    assert np.mean([e.details["se"] for e in estimates]) == pytest.approx((2.5 / 150) ** 0.5, rel=0.05)


def test_outside_the_support():
    nats = torch.zeros(9)
    nats[3] = nats[7] = -math.inf
    found = likelihood(nats, 2)
    assert found["nats"].value == -math.inf and found["bits_per_dim"].value == math.inf
    assert "2 of 9" in found["nats"].warnings[0] and "sample 3" in found["nats"].warnings[0]


@pytest.mark.parametrize("nats, options, error, words", [
    (torch.tensor([0.0, math.nan, 1.0]), {}, ValueError, "nats must not hold NaN.*; got 1 of 3.*sample 1"),
    (torch.tensor([0.0, math.inf]), {}, ValueError, "nats.*infinity.*sample 1"),
    (torch.zeros(3, 1), {}, ValueError, r"nats.*\(N,\).*\(3, 1\)"),
    (torch.zeros(1), {}, ValueError, r"nats.*at least 2"),
    (torch.zeros(3, dtype=torch.int64), {}, TypeError, "nats.*int64"),
    ([0.0, 1.0], {}, TypeError, "nats.*list"),
    (torch.zeros(3), {"dims": 0}, ValueError, "dims.*0"),
    (torch.zeros(3), {"se": torch.zeros(2)}, ValueError, r"se.*\(3,\).*\(2,\)"),
    (torch.zeros(3), {"se": torch.tensor([0.0, -1.0, 0.0])}, ValueError, "se.*at least 0"),
    (torch.zeros(3), {"bits_offset": math.nan}, ValueError, "bits_offset.*nan"),
])  # fmt: skip
def test_bad_input(nats, options, error, words):
    with pytest.raises(error, match=words):
        likelihood(nats, **({"dims": 2} | options))


# x = a z + noise of variance v, z from N(0, 1): p(x) = N(0, a^2 + v), and the posterior of z is Gaussian.
A, V = 1.5, 0.5
X = torch.linspace(-3, 3, 7, dtype=torch.float64)
EXACT = -(X**2 / (A**2 + V) + math.log(2 * math.pi * (A**2 + V))) / 2


def log_normal(x, mean, variance):
    return -((x - mean) ** 2 / variance + math.log(2 * math.pi * variance)) / 2


def log_weights(k, seed, widen=1.0):
    """(k, 7), with the posterior, its variance times `widen`, as q."""
    mean, variance = A * X / (A**2 + V), V / (A**2 + V) * widen
    z = mean + variance**0.5 * normal(k, len(X), seed=seed)
    return log_normal(z, 0, 1) + log_normal(X, A * z, V) - log_normal(z, mean, variance)


def test_the_exact_posterior_leaves_no_gap():
    weights = ImportanceWeights().update(log_weights(10, 0))
    for bound in (weights.elbo, weights.iwae):
        assert torch.allclose(bound, EXACT, atol=1e-12)
    assert weights.se.max() < 1e-6 and weights.elbo_se.max() < 1e-12
    assert torch.allclose(weights.effective, torch.full((7,), 10.0).double())


def test_the_bound_rises_to_the_likelihood():
    """Of q twice too wide: E log w is low by KL(q || p) = (2 - 1 - log 2) / 2, a mean of k weights by less and less."""
    gap = (1 - math.log(2)) / 2

    def bound(k):
        return np.mean([ImportanceWeights().update(log_weights(k, seed, 2.0)).iwae.numpy() for seed in range(400)])

    means = [bound(k) for k in (1, 3, 10)]
    assert means[0] == pytest.approx(EXACT.mean().item() - gap, abs=0.03)
    assert means[0] < means[1] < means[2] < EXACT.mean().item()
    weights = ImportanceWeights()
    for chunk in range(20):
        weights.update(log_weights(1000, 1000 + chunk, 2.0))
    assert (weights.iwae - EXACT).abs().max() < 3 * weights.se.max() < 0.03
    assert torch.allclose(weights.elbo, EXACT - gap, atol=5 * weights.elbo_se.max())
    assert (weights.effective < 0.99 * weights.k).all()


def test_standard_errors():
    found = [ImportanceWeights().update(log_weights(200, seed, 2.0)) for seed in range(200)]
    for bound, se in (("iwae", "se"), ("elbo", "elbo_se")):
        spread = torch.stack([getattr(weights, bound) for weights in found]).std(0)
        typical = torch.stack([getattr(weights, se) for weights in found]).mean(0)
        assert torch.allclose(typical, spread, rtol=0.2)


def test_chunks_and_shards():
    """However the weights come, the sums are theirs; far below the range of exp too."""
    log_w = log_weights(60, 3, 2.0) - 5000
    whole = ImportanceWeights().update(log_w)
    shards = [ImportanceWeights().update(log_w[:20]), ImportanceWeights(), ImportanceWeights()]
    for row in log_w[20:].split(1):
        shards[2].update(row)
    merged = ImportanceWeights()
    for shard in shards:
        merged.merge(shard)
    assert merged.k == whole.k == 60
    for name in ("iwae", "se", "elbo", "elbo_se", "effective"):
        assert torch.allclose(getattr(merged, name), getattr(whole, name), rtol=1e-9), name
    expected = torch.logsumexp(log_w, 0) - math.log(60)
    assert torch.allclose(whole.iwae, expected, rtol=1e-14)


def test_a_weight_of_zero():
    weights = ImportanceWeights().update(torch.tensor([[0.0], [-math.inf]]))
    assert weights.iwae.item() == pytest.approx(-math.log(2)) and weights.elbo.item() == -math.inf
    assert weights.effective.item() == 1
    twice = ImportanceWeights().merge(weights).merge(weights)
    assert twice.iwae.item() == pytest.approx(-math.log(2)) and twice.elbo.item() == -math.inf
    none = ImportanceWeights().update(torch.full((3, 1), -math.inf)).update(torch.full((3, 1), -math.inf))
    assert none.iwae.item() == none.elbo.item() == -math.inf
    assert ImportanceWeights().update(torch.zeros(1, 2)).se.isnan().all()


@pytest.mark.parametrize("log_w, error, words", [
    (torch.zeros(3), ValueError, r"log_weights.*\(K, 2\).*\(3,\)"),
    (torch.zeros(3, 4), ValueError, r"log_weights.*\(K, 2\).*\(3, 4\)"),
    (torch.tensor([[0.0, math.nan]]), ValueError, "NaN.*1 such samples.*first 1"), ([[0.0, 1.0]], TypeError, "list"),
    (torch.zeros(1, 2, dtype=torch.int64), TypeError, "int64"),
])  # fmt: skip
def test_bad_weights(log_w, error, words):
    weights = ImportanceWeights().update(torch.zeros(1, 2))
    with pytest.raises(error, match=words):
        weights.update(log_w)
    assert weights.k == 1
    with pytest.raises(ValueError, match=r"other.*2 samples.*3"):
        weights.merge(ImportanceWeights().update(torch.zeros(1, 3)))
    with pytest.raises(TypeError, match=r"other.*Tensor"):
        weights.merge(torch.zeros(1, 2))
