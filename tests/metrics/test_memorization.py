"""Memorization: planted copies are found and counted, held-out data is what it is calibrated to."""

import numpy as np
import pytest
import torch
from helpers import normal
from metric_sets import covers

from genfast.metrics import memorization


def fresh(n, t, h, seed, d=4):
    return normal(n, d, seed=3 * seed), normal(t, d, seed=3 * seed + 1), normal(h, d, seed=3 * seed + 2)


def test_brute_force():
    x, train, held_out = (z.float() for z in fresh(30, 40, 50, 0))
    x[4] = train[7]
    found = memorization(x, train, held_out, k=3)
    among = torch.cdist(train.double(), train.double(), compute_mode="donot_use_mm_for_euclid_dist")
    scale = among.fill_diagonal_(torch.inf).sort(1).values[:, :3].mean(1)
    ratios = []
    for z in (x, held_out):
        distance, nearest = torch.cdist(z.double(), train.double(), compute_mode="donot_use_mm_for_euclid_dist").min(1)
        ratios.append(distance / scale[nearest])
    assert torch.allclose(found.ratio, ratios[0], rtol=1e-12) and torch.allclose(found.held_out_ratio, ratios[1])
    assert found.nearest[4] == 7 and found.distance[4] == 0 and found.order[0] == 4
    assert (found.ratio[found.order].diff() >= 0).all()


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_planted_copies(noise):
    """Exact or nearly so: they come first, and the excess over the expected share is their number."""
    x, train, held_out = fresh(400, 500, 300, 1)
    x[100:130] = train[200:230] + noise * normal(30, 4, seed=9)
    found = memorization(x, train, held_out)
    assert sorted(found.order[:30].tolist()) == list(range(100, 130))
    assert found.nearest[100:130].tolist() == list(range(200, 230))
    details = found.share.details
    assert details["copies"] == (0 if noise else 30)
    assert abs(details["suspicious"] - 30 - details["expected"] * 370) < 10
    assert found.share.low > 0.04 and details["z_score"] < -1


@pytest.mark.parametrize("copied", [0.0, 0.1])
def test_the_expected_share(copied):
    """Fresh data is suspicious with probability j / (H + 1); with copies among it, the interval covers the sum."""
    shares = []
    for seed in range(100):
        x, train, held_out = fresh(300, 300, 600, seed)
        copies = torch.from_numpy(np.random.default_rng(seed).random(300) < copied)
        x[copies] = train[copies]
        shares.append(memorization(x, train, held_out).share)
    expected = 6 / 601
    assert shares[0].details["expected"] == pytest.approx(expected)
    truth = copied + (1 - copied) * expected
    values = np.array([share.value for share in shares])
    assert abs(values.mean() - truth) < 3 * values.std() / 10
    assert 90 <= covers(shares, truth) <= 99
    if not copied:
        z = np.array([share.details["z_score"] for share in shares])
        assert abs(z.mean()) < 0.4 and 0.7 < z.std() < 1.3


def test_rank_test():
    from scipy.stats import mannwhitneyu

    from genfast.metrics.memorization import _mann_whitney

    x, y = normal(30, 1, seed=1)[:, 0].round(decimals=1), normal(50, 1, seed=2)[:, 0].round(decimals=1) + 0.2
    p = mannwhitneyu(x, y, alternative="less", use_continuity=False, method="asymptotic").pvalue
    from statistics import NormalDist

    assert NormalDist().cdf(_mann_whitney(x, y)) == pytest.approx(p, rel=1e-9)
    assert _mann_whitney(torch.ones(5), torch.ones(4)) == 0


def test_what_is_said():
    x, train, held_out = fresh(50, 60, 40, 1)
    few = memorization(x, train, held_out)
    assert "40 held-out points are too few" in few.share.warnings[0] and few.share.details["expected"] == 1 / 41
    assert memorization(x, train, held_out, quantile=0.1).share.warnings == ()
    leaked = memorization(x, train, torch.cat([held_out, train[:2]]), quantile=0.1)
    assert "2 of 42 held-out points are training points" in leaked.share.warnings[0]
    doubled = memorization(x, torch.cat([train, train[:1].repeat(5, 1)]), held_out, quantile=0.1)
    assert "6 of 65 training points have 5 or more exact copies" in doubled.share.warnings[0]
    assert not doubled.ratio.isnan().any()


@pytest.mark.parametrize("rows, options, words", [
    ((5, 5, 9), {}, r"train.*more than k = 5.*5"), ((5, 9, 1), {}, r"held_out.*at least 2"),
    ((5, 9, 9), {"quantile": 0}, r"quantile.*\(0, 1\).*0"), ((5, 9, 9), {"k": 0}, "k.*0"),
    ((5, 9, 9), {"level": 2}, r"level.*\(0, 1\).*2"),
])  # fmt: skip
def test_bad_input(rows, options, words):
    with pytest.raises(ValueError, match=words):
        memorization(*fresh(*rows, 0), **options)
