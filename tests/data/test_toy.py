"""Toy distributions: what is drawn has the density that is told, and both are right."""

import math

import numpy as np
import pytest
import torch

import genfast as gf
from genfast.data.toy import TOYS, toy

CLASSES = {"moons": 2, "rings": 3, "spirals": 2, "checkerboard": 0, "pinwheel": 5, "grid": 25}
every = pytest.mark.parametrize("name", TOYS)
SIDE, CELLS = 5.0 * math.sqrt(3), 200  # of the square of `cells`; a border of the checkerboard is one of theirs


def cells():
    """(middles of the cells of a square around 0, (CELLS^2, 2); the area of one)."""
    line = ((torch.arange(CELLS, dtype=torch.float64) + 0.5) / CELLS - 0.5) * SIDE
    return torch.cartesian_prod(line, line), (SIDE / CELLS) ** 2


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@every
def test_the_density(name):
    """It integrates to 1, with mean 0 and variance 1; points have its entropy, and fill cells as it says."""
    data = toy(name, 20_000, seed=3)
    x, area = cells()
    log_p = data.log_density(x)
    assert log_p.dtype == torch.float64 and log_p.shape == x.shape[:1]
    p = log_p.exp() * area
    assert float(p.sum()) == pytest.approx(1, abs=1e-8)  # cells half as wide as the noise: the sum converges so fast
    assert (p @ x).abs().max() < 1e-6 and float(p @ x.square().sum(1)) == pytest.approx(2, abs=1e-3)

    entropy, own = -float((p * log_p.nan_to_num(neginf=0)).sum()), -data.log_density(data.x)
    assert abs(float(own.mean()) - entropy) < 4 * float(own.std()) / math.sqrt(len(data)) + 1e-6

    coarse = 10  # bins of 10 x 10 cells
    place = ((data.x.double() / SIDE + 0.5) * CELLS / coarse).long()
    bins = CELLS // coarse
    seen = torch.bincount(place[:, 0] * bins + place[:, 1], minlength=bins**2)
    expected = p.view(bins, coarse, bins, coarse).sum((1, 3)).flatten() * len(data)
    full = expected > 5
    assert float(expected[~full].sum()) - float(seen[~full].sum()) < 100
    chi_square = float(((seen - expected).square() / expected)[full].sum())
    degrees = int(full.sum()) - 1
    assert abs(chi_square - degrees) < 4 * math.sqrt(2 * degrees) + 1


@every
def test_labels(name):
    data = toy(name, 5000)
    assert data.classes == CLASSES[name] and data.shape == (2,) and data.x.dtype == torch.float32
    if data.classes:
        counts = torch.bincount(data.label, minlength=data.classes)
        shares = torch.tensor([1.0, 2.0, 3.0]) / 6 if name == "rings" else torch.ones(data.classes) / data.classes
        assert ((counts / 5000 - shares).abs() < 4 * (shares / 5000).sqrt()).all()
    else:
        assert data.label is None


def test_labels_are_where_they_lie():
    rings = toy("rings", 2000)
    near = [float(rings.x[rings.label == k].norm(dim=1).mean()) for k in range(3)]
    assert near == pytest.approx([near[0], 2 * near[0], 3 * near[0]], rel=0.02)
    grid = toy("grid", 2000)
    centers = torch.stack([grid.x[grid.label == k].mean(0) for k in range(25)])
    assert torch.equal(torch.cdist(grid.x, centers).argmin(1), grid.label)


@every
def test_a_point_is_a_function_of_seed_and_index(name):
    few, many, other = toy(name, 10), toy(name, 1000), toy(name, 10, seed=1)
    assert torch.equal(few.x, many.x[:10]) and not torch.equal(few.x, other.x)
    assert torch.equal(few.x, toy(name, 10).x)


def test_its_stream_is_not_that_of_an_order():
    """NumPy's Philox with the key (seed, epoch) sorts the data."""
    words = np.random.Philox(key=np.array([0, 0], dtype=np.uint64)).random_raw(4 * 100)
    first = torch.from_numpy(((words.reshape(-1, 4)[:, 0] >> 11) * 2.0**-53 * 25).astype(np.int64))
    assert not torch.equal(first, toy("grid", 100).label)


@every
def test_log_density_takes_any_points(name):
    data = toy(name, 4)
    far = data.log_density([[0.0, 100.0], [1e6, 0.0]])
    assert far.dtype == torch.float64 and (far < -1000).all() and (torch.isfinite(far).all() or name == "checkerboard")
    assert data.log_density(torch.zeros(0, 2)).shape == (0,)
    assert data.log_density(torch.full((1, 2), torch.nan)).isnan().all()
    assert torch.equal(data.log_density(data.x.numpy()), data.log_density(data.x))
    for wrong in (torch.zeros(3), torch.zeros(3, 3), torch.zeros(3, 2, dtype=torch.int64), "x", None):
        with pytest.raises((ValueError, TypeError), match="x must"):
            data.log_density(wrong)


def test_a_gaussian_of_the_grid_by_hand():
    spacing = math.sqrt((1 - 0.01) / 2)
    log_p = float(toy("grid", 1).log_density([[2 * spacing, -spacing]]))
    assert log_p == pytest.approx(-math.log(2 * math.pi * 0.01 * 25), abs=1e-9)
    assert float(toy("checkerboard", 1).log_density([[-1.7, -1.7]])) == pytest.approx(-math.log(6))


def test_wrong_arguments():
    for name in ("moon", None, 3):
        with pytest.raises(ValueError, match="name must be one of moons, rings, spirals, checkerboard, pinwheel, grid"):
            toy(name)
    for n in (0, -1, 1.5, None):
        with pytest.raises(ValueError, match="n must be an integer"):
            toy("moons", n)
    for seed in (-1, 2**63, 0.5):
        with pytest.raises(ValueError, match="seed must be an integer"):
            toy("moons", 3, seed=seed)


def test_by_name():
    assert torch.equal(gf.data.load("toy:moons").x, toy("moons").x)
    with pytest.raises(ValueError, match="name must be one of moons"):
        gf.data.load("toy:stars")
    with pytest.raises(ValueError, match=r"size must be None|names must"):
        gf.data.load("toy:checkerboard", names=["a"])
