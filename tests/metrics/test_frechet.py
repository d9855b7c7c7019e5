"""The Frechet distance of samples with its bias, extrapolation and interval: laws of Gaussian sets."""

import numpy as np
import pytest
import torch
from helpers import normal
from metric_sets import covers, orthogonal

from genfast.metrics import frechet, frechet_distance
from genfast.metrics.frechet import _gaussian, _transports, _under_equality

ROOTS = {d: orthogonal(d, 1) * torch.logspace(-1, 0, d).double().sqrt() for d in (4, 16, 32)}


def between(root_x, root_y, offset):
    """The distance of two Gaussians, by scipy's matrix square root."""
    from scipy.linalg import sqrtm

    s_x, s_y = (root @ root.T for root in (root_x.numpy(), root_y.numpy()))
    return offset @ offset + np.trace(s_x + s_y - 2 * np.real(sqrtm(s_x @ s_y)))


def different(d, n, m, seed):
    """Samples of two Gaussians with other means and other axes."""
    turned = orthogonal(d, 2) @ ROOTS[d]
    offset = torch.zeros(d).double()
    offset[0] = 0.5
    x, y = normal(n, d, seed=2 * seed) @ ROOTS[d].T, offset + normal(m, d, seed=2 * seed + 1) @ turned.T
    return x, y, between(ROOTS[d], turned, offset.numpy())


def test_scipy_at_full_rank():
    x, y = normal(500, 20, seed=1) @ orthogonal(20, 2) * torch.linspace(0.1, 3, 20), 0.3 + normal(400, 20, seed=3)
    roots = [torch.linalg.cholesky(torch.cov(z.T)) for z in (x, y)]
    expected = between(*roots, (x.mean(0) - y.mean(0)).numpy())
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("d, n, m, scale, repeats", [
    (8, 400, 1200, (0.2, 3), 1000),
    (8, 1000, 1000, (1, 1), 2000),
    (16, 2000, 2000, (1, 1), 600),
    (32, 2000, 2000, (1, 1), 150),
])  # fmt: skip
def test_bias_under_equality(d, n, m, scale, repeats):
    """The mean over repeats within 2 % of the formula, which for N(0, I) is 2 d / N + d (d + 1) / (2 N)."""
    l = torch.linspace(*scale, d, dtype=torch.float64)
    sets = [(normal(n, d, seed=2 * i) * l.sqrt(), normal(m, d, seed=2 * i + 1) * l.sqrt()) for i in range(repeats)]
    c, harmonic = 1 / n + 1 / m, l * l[:, None] / (l + l[:, None])
    expected = (c * l.sum() + c / 2 * (harmonic.sum() + harmonic.trace())).item()
    if scale == (1, 1):
        assert expected == pytest.approx(2 * d / n + d * (d + 1) / (2 * n), rel=1e-12)
    assert np.mean([frechet_distance(x, y) for x, y in sets]) == pytest.approx(expected, rel=0.02)
    assert np.mean([frechet(x, y).details["bias"] for x, y in sets[:5]]) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("n, m", [(50, 60), (9, 60), (60, 9), (9, 9)])
def test_optimal_maps(n, m):
    """tr T S_x = tr (S_x S_y)^(1/2), and T S_x T = S_y if x varies in as many directions as y does."""
    x, y = (_gaussian(z) for z in different(16, n, m, 0)[:2])
    for own, other, root in zip((x, y), (y, x), _transports(x, y)):
        transport = root.T @ root
        cross = torch.linalg.svdvals(own.root @ other.root.T).sum()
        moved = own.root @ transport
        assert (transport * (own.root.T @ own.root)).sum().item() == pytest.approx(cross.item(), rel=1e-10)
        if len(own.root) >= len(other.root):
            assert torch.allclose(moved.T @ moved, other.root.T @ other.root, atol=1e-10)


@pytest.mark.parametrize("d, n, m", [(4, 300, 300), (16, 401, 800)])
def test_interval_and_extrapolation(d, n, m):
    """The plug-in distance is biased, the extrapolated one is not, and its interval covers that of the Gaussians."""
    estimates = []
    for seed in range(100):
        x, y, truth = different(d, n, m, seed)
        estimates.append(frechet(x, y, seed=seed))
    assert 90 <= covers(estimates, truth) <= 99
    extrapolated = np.array([e.details["extrapolated"] for e in estimates])
    assert abs(extrapolated.mean() - truth) < 3 * extrapolated.std() / 10
    assert np.mean([e.value for e in estimates]) - truth > 2 * extrapolated.std() / 10
    assert np.mean([e.details["se"] for e in estimates]) == pytest.approx(extrapolated.std(), rel=0.25)


@pytest.mark.parametrize("d, n", [(2, 200), (8, 300), (16, 400)])
def test_interval_of_equal_distributions(d, n):
    """The first order vanishes: the standard error is that of the second order, and 0 is covered."""
    estimates = [frechet(normal(n, d, seed=2 * i), normal(n, d, seed=2 * i + 1)) for i in range(100)]
    extrapolated = np.array([e.details["extrapolated"] for e in estimates])
    assert abs(extrapolated.mean()) < 3 * extrapolated.std() / 10
    assert np.mean([e.details["se"] for e in estimates]) == pytest.approx(extrapolated.std(), rel=0.25)
    assert covers(estimates, 0.0) >= 90


def test_scale():
    """In the square of the features' unit, all of it."""
    x, y, _ = different(4, 60, 80, 0)
    once, twice = frechet(x, y), frechet(2 * x, 2 * y)
    for name in ("value", "low", "high"):
        assert getattr(twice, name) == pytest.approx(4 * getattr(once, name), rel=1e-10)
    assert twice.details == pytest.approx({name: 4 * value for name, value in once.details.items()}, rel=1e-10)


def test_the_seed_draws_the_halves():
    x, y, _ = different(4, 60, 80, 0)
    assert frechet(x, y, seed=3) == frechet(x, y, seed=3)
    other = frechet(x, y, seed=4)
    assert other.value == frechet(x, y, seed=3).value
    assert other.details["extrapolated"] != frechet(x, y, seed=3).details["extrapolated"]


def test_what_is_said():
    x, y, _ = different(16, 50, 60, 0)
    assert frechet(x, y).warnings == () and (frechet(x, y).n, frechet(x, y).m) == (50, 60)
    assert "halves of 30 rows of 16" in frechet(x[:30], y).warnings[0]
    singular = frechet(x[:16], y)
    assert "16 rows of 16 features" in singular.warnings[0] and np.isfinite(singular.value)
    same = frechet(x, x)
    assert same.value == 0 and "same rows" in same.warnings[0] and same.low == 0


@pytest.mark.parametrize("n, m, d", [(100, 100, 200), (60, 90, 30), (90, 60, 30)])
def test_no_interval_where_halves_are_singular(n, m, d):
    """The truth is 5; the extrapolation is anything, and an interval about it does not say otherwise."""
    offset = torch.zeros(d, dtype=torch.float64)
    offset[0] = 5**0.5
    found = frechet(normal(n, d, seed=1), normal(m, d, seed=2) + offset)
    assert (found.low, found.high) == (0, np.inf) and np.isnan(found.details["se"]) and len(found.warnings) == 1
    enough = frechet(normal(61, 30, seed=1), normal(61, 30, seed=2))
    assert np.isfinite([enough.high, enough.details["se"]]).all() and enough.warnings == ()


@pytest.mark.parametrize("n, m", [(5, 6), (5, 60), (12, 12), (13, 12)])
def test_under_equality_of_few_rows(n, m):
    """From the eigenvalues of the rows' products as from those of the features'."""
    d, c = 24, 1 / n + 1 / m
    x, y = _gaussian(normal(n, d, seed=1)), _gaussian(2 * normal(m, d, seed=2))
    l = torch.linalg.eigvalsh((x.root.T @ x.root + y.root.T @ y.root) / 2)
    l = l[l > 1e-9 * l[-1]]
    harmonic = l * l[:, None] / (l + l[:, None])
    mean = c * l.sum() + c / 2 * (harmonic.sum() + harmonic.trace())
    variance = c**2 * (2 * l.square().sum() + harmonic.square().sum() + harmonic.diagonal().square().sum())
    assert _under_equality(x, y, c) == pytest.approx((mean.item(), variance.item()), rel=1e-10)


def test_few_rows_make_no_matrix_of_the_features(monkeypatch):
    sizes, solve = [], torch.linalg.eigvalsh
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda a: sizes.append(len(a)) or solve(a))
    frechet(normal(20, 3000, seed=1), normal(30, 3000, seed=2))
    assert sizes == [50]


def test_constant_features():
    """A dimension in which nothing varies adds its offset alone, and nothing that is not finite."""
    x, y, _ = different(4, 50, 60, 0)
    wide_x, wide_y = (torch.cat([z, torch.full((len(z), 1), c).double()], 1) for z, c in ((x, 1.0), (y, 3.0)))
    plain, wide = frechet(x, y), frechet(wide_x, wide_y)
    assert wide.value == pytest.approx(plain.value + 4, rel=1e-10)
    assert wide.details["se"] == pytest.approx(plain.details["se"], rel=1e-6)


@pytest.mark.parametrize("rows, options, words", [
    (3, {}, "samples.*at least 4"), (8, {"level": 1.0}, r"level.*\(0, 1\).*1.0"), (8, {"seed": -1}, "seed.*-1"),
    (8, {"seed": 2**63}, r"seed must be an integer from 0 to 2\^63 - 1"), (8, {"seed": 1.0}, "seed.*integer.*1.0"),
])  # fmt: skip
def test_bad_input(rows, options, words):
    with pytest.raises(ValueError, match=words):
        frechet(normal(rows, 2, seed=1), normal(9, 2, seed=2), **options)
