"""The kernel distance against brute force, closed forms of Gaussians, and its own spread over repeats."""

import itertools

import numpy as np
import pytest
import torch
from helpers import normal
from metric_sets import covers

from genfast import ops
from genfast.metrics import kernel_distance
from genfast.metrics.kernel import _across, _within


def kernel_matrix(x, y, kernel, gamma):
    if kernel == "polynomial":
        return (gamma * x @ y.T + 1) ** 3
    return np.exp(-gamma * ((x[:, None] - y) ** 2).sum(-1))


@pytest.mark.parametrize("kernel", ["polynomial", "rbf"])
@pytest.mark.parametrize("n, m", [(30, 30), (17, 41)])
def test_brute_force(kernel, n, m):
    """Duplicates among them."""
    x, y = normal(n, 5, seed=1).float(), 0.3 + normal(m, 5, seed=2).float()
    x[3:6], y[:4] = x[0].clone(), x[0].clone()
    found = kernel_distance(x, y, kernel=kernel, gamma=0.3)
    x, y = x.double().numpy(), y.double().numpy()
    within_x, within_y = (kernel_matrix(z, z, kernel, 0.3)[~np.eye(len(z), dtype=bool)].mean() for z in (x, y))
    across = kernel_matrix(x, y, kernel, 0.3).mean()
    assert found.value == pytest.approx(within_x + within_y - 2 * across, abs=1e-13 * (within_x + within_y))
    assert found.low < found.value < found.high and (found.n, found.m) == (n, m)


def test_variance_components():
    """From row sums: the means of products over all distinct indices, by enumeration."""
    k = np.exp(normal(6, 6, seed=1).numpy())
    k = k + k.T
    np.fill_diagonal(k, 0)
    i, j, a, b = np.array(list(itertools.permutations(range(6), 4))).T
    expected = np.mean(k[i, j] ** 2 - 2 * k[i, j] * k[i, a] + k[i, j] * k[a, b])
    sums = ops.KernelSums(*(torch.tensor(z.sum(1)) for z in (k, k**2)))
    assert _within(sums) == pytest.approx(max(expected, 0), rel=1e-10)

    k = np.exp(normal(4, 5, seed=2).numpy())
    (i, a), (j, b) = (np.array(list(itertools.permutations(range(size), 2))).T for size in k.shape)
    i, a, j, b = i[:, None], a[:, None], j[None], b[None]
    expected = np.mean(k[i, j] ** 2 - k[i, j] * k[i, b] - k[i, j] * k[a, j] + k[i, j] * k[a, b])
    rows, columns = (ops.KernelSums(*(torch.tensor(z.sum(1)) for z in (t, t**2))) for t in (k, k.T))
    assert expected > 0 and _across(rows, columns) == pytest.approx(expected, rel=1e-10)


def gaussian_rbf(d, shift, scale, gamma):
    """Of N(0, I) and N(shift e_1, scale^2 I): E k = (1 + 2 gamma v)^(-d/2) exp(-gamma |offset|^2 / (1 + 2 gamma v)), v
    the variance of the difference."""

    def mean(v, offset):
        return (1 + 2 * gamma * v) ** (-d / 2) * np.exp(-gamma * offset**2 / (1 + 2 * gamma * v))

    return mean(2, 0) + mean(2 * scale**2, 0) - 2 * mean(1 + scale**2, shift)


def gaussian_polynomial(d, shift, scale):
    """Of the same, with gamma 1/d, from the first three moments of x.y; q = shift^2."""
    q, s2 = shift**2, scale**2
    first, second = q, q**2 + 2 * s2 * q + d * s2**2
    third = q**3 + 3 * s2 * q**2 + 3 * s2 * (q**2 + d * s2 * q + 2 * s2 * q)
    yy = 1 + 3 * first / d + 3 * second / d**2 + third / d**3
    xx, xy = 1 + 3 / d, 1 + 3 * (q + d * s2) / d**2
    return xx + yy - 2 * xy


@pytest.mark.parametrize("kernel, gamma, d, n, m, shift, scale", [
    ("rbf", 0.125, 4, 150, 200, 0.5, 1.2), ("rbf", 0.05, 8, 100, 100, 0.6, 1.0),
    ("polynomial", None, 4, 150, 200, 0.5, 1.2), ("polynomial", None, 8, 300, 200, 0.0, 1.3),
])  # fmt: skip
def test_unbiased_with_an_interval_that_covers(kernel, gamma, d, n, m, shift, scale):
    truth = gaussian_rbf(d, shift, scale, gamma) if kernel == "rbf" else gaussian_polynomial(d, shift, scale)
    estimates = []
    for i in range(100):
        y = scale * normal(m, d, seed=2 * i + 1)
        y[:, 0] += shift
        estimates.append(kernel_distance(normal(n, d, seed=2 * i), y, kernel=kernel, gamma=gamma))
    values = np.array([e.value for e in estimates])
    assert abs(values.mean() - truth) < 3 * values.std() / 10
    assert truth > 2 * values.std() or truth > 0.01
    assert 90 <= covers(estimates, truth) <= 99
    rms = np.mean([e.details["se"] ** 2 for e in estimates]) ** 0.5
    assert rms == pytest.approx(values.std(), rel=0.25)


@pytest.mark.parametrize("kernel", ["polynomial", "rbf"])
def test_equal_distributions(kernel):
    """About 0 on average, half of them below it; the first order vanishes, and the variance is not below 0."""
    estimates = [
        kernel_distance(normal(80, 6, seed=2 * i), normal(100, 6, seed=2 * i + 1), kernel=kernel) for i in range(200)
    ]
    values = np.array([e.value for e in estimates])
    assert abs(values.mean()) < 3 * values.std() / 200**0.5
    assert 0.4 < (values < 0).mean() < 0.7
    assert covers(estimates, 0.0) >= 0.9 * 200 and min(e.details["se"] for e in estimates) > 0


def test_median_bandwidth():
    x, y = normal(60, 3, seed=1), 1 + normal(70, 3, seed=2)
    pooled = torch.cat([x, y]).float().double()
    found = kernel_distance(x, y, kernel="rbf")
    assert found.details["gamma"] == pytest.approx(1 / (2 * torch.pdist(pooled).square().median().item()))
    assert kernel_distance(10 * x, 10 * y, kernel="rbf").value == pytest.approx(found.value, rel=1e-5)


def test_order_of_rows_and_swap():
    x, y = normal(60, 3, seed=1), 1 + normal(70, 3, seed=2)
    found = kernel_distance(x, y)
    assert kernel_distance(x.flip(0), y.flip(0)).value == pytest.approx(found.value, rel=1e-12)
    swapped = kernel_distance(y, x)
    assert (swapped.value, swapped.details["se"]) == pytest.approx((found.value, found.details["se"]), rel=1e-12)


@pytest.mark.parametrize("rows, options, words", [
    (3, {}, "samples.*at least 4"), (8, {"kernel": "linear"}, "kernel.*rbf.*linear"), (8, {"gamma": 0.0}, "gamma.*0.0"),
    (8, {"level": 95}, r"level.*\(0, 1\).*95"), (8, {"gamma": float("nan")}, "gamma.*nan"),
    (8, {"gamma": "median"}, "gamma.*median"),
])  # fmt: skip
def test_bad_input(rows, options, words):
    with pytest.raises(ValueError, match=words):
        kernel_distance(normal(rows, 2, seed=1), normal(9, 2, seed=2), **options)


@pytest.mark.parametrize("seed", range(40))
def test_equal_constants_are_not_told_apart(seed):
    """Their means differ by rounding, with an interval of no width: it would exclude 0."""
    x = 3 * normal(1, 2, seed=seed)
    found = kernel_distance(x.expand(9, 2), x.expand(17, 2))
    assert found.low <= 0 <= found.high and abs(found.value) < 1e-9


def test_squares_beyond_float64():
    with pytest.raises(ValueError, match=r"samples and real must be smaller.*overflow float64; got"):
        kernel_distance(1e30 * normal(9, 2, seed=1).float(), 1e30 * normal(9, 2, seed=2).float())


def test_no_scale():
    with pytest.raises(ValueError, match=r"gamma.*distances are 0"):
        kernel_distance(torch.ones(9, 2), torch.ones(9, 2), kernel="rbf")
