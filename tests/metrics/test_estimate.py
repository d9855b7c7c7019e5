"""The Frechet distance against closed forms, on sample sets whose mean and covariance are exact by construction."""

import numpy as np
import pytest
import torch
from helpers import normal
from metric_sets import orthogonal

from genfast.metrics import frechet_distance


def exact(mean, root):
    """Samples of exactly this mean and covariance root root^T: the columns of root, scaled, and their negatives."""
    d = root.shape[1]
    points = root.T * ((2 * d - 1) / 2) ** 0.5
    return mean + torch.cat([points, -points])


@pytest.mark.parametrize("d", [1, 3, 40])
def test_commuting_covariances(d):
    """|dmu|^2 + sum (s1 - s2)^2 when the covariances have the same axes."""
    axes, mean = orthogonal(d), normal(1, d, seed=5)
    s1, s2 = torch.linspace(0.1, 3, d, dtype=torch.float64), torch.linspace(2, 0, d, dtype=torch.float64)
    x, y = exact(mean, axes * s1), exact(-mean, axes * s2)
    assert torch.allclose(torch.cov(x.T), (axes * s1**2) @ axes.T, atol=1e-12)
    expected = (4 * mean.square().sum() + (s1 - s2).square().sum()).item()
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.2])
def test_two_rotated_ellipses(angle):
    """In two dimensions tr (S1 S2)^(1/2) = (tr(S1 S2) + 2 det(S1 S2)^(1/2))^(1/2): an independent closed form."""
    turn = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], dtype=torch.float64)
    root1, root2 = torch.diag(torch.tensor([3.0, 0.5]).double()), turn @ torch.diag(torch.tensor([1.0, 2.0]).double())
    s1, s2 = root1 @ root1.T, root2 @ root2.T
    cross = ((s1 @ s2).trace() + 2 * (s1 @ s2).det().sqrt()).sqrt()
    expected = (s1.trace() + s2.trace() - 2 * cross).item()
    assert frechet_distance(exact(0, root1), exact(0, root2)) == pytest.approx(expected, rel=1e-12)


def test_rank_deficient_sets():
    """Fewer samples than dimensions, in planes at a known angle: tr (S1 S2)^(1/2) = s1 s2 |cos| for two lines."""
    d, angle = 24, 0.7
    axes = orthogonal(d)
    a, b = axes[:, 0], np.cos(angle) * axes[:, 0] + np.sin(angle) * axes[:, 1]
    x = torch.stack([a, -a]) * 2.0  # variance 8 along a
    y = torch.stack([b, 0 * b, -b]) * 3.0  # variance 9 along b
    assert frechet_distance(x, y) == pytest.approx(8 + 9 - 2 * (72**0.5) * np.cos(angle), rel=1e-13)


@pytest.mark.parametrize("n, d", [(9, 24), (200, 64), (65, 64), (64, 64), (5, 1)])
def test_identical_sets(n, d):
    x = normal(n, d)
    assert frechet_distance(x, x.clone()) == 0
    assert frechet_distance(x.float(), x.float()) == 0
    assert frechet_distance(x, x.flip(0)) < 1e-12 * d  # the same set in another order, exact up to rounding


@pytest.mark.parametrize("n, m, d", [(50, 80, 7), (5, 80, 20), (6, 4, 20)])
def test_translation_scaling_rotation_symmetry(n, m, d):
    x, y = normal(n, d, seed=1), 0.5 + 2 * normal(m, d, seed=2)
    distance, shift, turn = frechet_distance(x, y), normal(1, d, seed=3), orthogonal(d, 4)
    assert distance > 1
    assert frechet_distance(x, x + shift) == pytest.approx(shift.square().sum().item(), rel=1e-12)
    assert frechet_distance(x + shift, y + shift) == pytest.approx(distance, rel=1e-12)
    assert frechet_distance(3 * x, 3 * y) == pytest.approx(9 * distance, rel=1e-12)
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(distance, rel=1e-12)
    assert frechet_distance(y, x) == pytest.approx(distance, rel=1e-12)


def test_small_distances_are_resolved():
    """A shift of 1e-6 of the features, which float32 statistics or a matrix square root would lose."""
    x = 100 + normal(500, 30)
    assert frechet_distance(x, x + 1e-4) == pytest.approx(30 * 1e-8, rel=1e-4)


def test_arrays_and_float32_are_taken():
    x, y = normal(30, 4, seed=1).float(), normal(40, 4, seed=2).float()
    assert frechet_distance(x.numpy(), y.numpy()) == frechet_distance(x, y) == frechet_distance(x.double(), y.double())


@pytest.mark.parametrize(
    "x, y, error, words",
    [
        (torch.zeros(3), torch.zeros(3, 1), ValueError, r"x.*\(N, D\).*\(3,\)"),
        (torch.zeros(3, 2), torch.zeros(1, 2), ValueError, r"y.*at least 2.*\(1, 2\)"),
        (torch.zeros(3, 2), torch.zeros(3, 4), ValueError, r"y.*2 features.*4"),
        (torch.zeros(3, 0), torch.zeros(3, 0), ValueError, r"x.*\(3, 0\)"),
        (torch.zeros(3, 2, dtype=torch.uint8), torch.zeros(3, 2), TypeError, r"x.*uint8"),
        (torch.zeros(3, 2), [[1.0, 2.0]], TypeError, r"y.*list"),
        (torch.zeros(3, 2), torch.full((3, 2), float("nan")), ValueError, r"y.*NaN"),
    ],
)
def test_bad_input(x, y, error, words):
    with pytest.raises(error, match=words):
        frechet_distance(x, y)
