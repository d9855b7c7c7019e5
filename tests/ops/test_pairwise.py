"""ops.nearest and ops.balls against float64 arithmetic, bit for bit: the filter never decides what it cannot know."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import ISAS
from helpers import normal32

import genfast
from genfast import ops
from genfast._extension import extension

EMULATED = extension.build_info()["emulated"]


def squared(x, y):
    """|x_i - y_j|^2 in float64: dimension d goes to partial sum d % 16, in order, those are added in a tree."""
    padded = -(-x.shape[1] // 16) * 16
    x, y = (np.pad(t.numpy().astype(np.float64), ((0, 0), (0, padded - t.shape[1]))) for t in (x, y))
    partial = np.zeros((len(x), len(y), 16))
    for first in range(0, padded, 16):
        difference = x[:, None, first : first + 16] - y[None, :, first : first + 16]
        partial += difference * difference
    for distance in (8, 4, 2, 1):
        partial = partial[..., :distance] + partial[..., distance : 2 * distance]
    return torch.from_numpy(partial[..., 0])


def check_nearest(x, y, k, exclude_self=False):
    distances = squared(x, y)
    if exclude_self:
        distances.fill_diagonal_(torch.inf)
    expected = torch.sort(distances, dim=1, stable=True)
    found = ops.nearest(x, y, k, exclude_self=exclude_self)
    assert torch.equal(found.distance, expected.values[:, :k])
    assert torch.equal(found.index, expected.indices[:, :k])


def check_balls(x, y, radius_x, radius_y):
    distances = squared(x, y)
    found = ops.balls(x, y, radius_x, radius_y)
    for inside, in_own, over_other in (
        (distances <= radius_x[:, None], found.in_x, found.over_y),
        (radius_y[:, None] >= distances.T, found.in_y, found.over_x),
    ):
        assert torch.equal(in_own, inside.sum(1))
        assert torch.equal(over_other, inside.sum(0))


def check(x, y, k):
    """Neighbors, and balls whose radii are distances of the very pairs that are counted."""
    check_nearest(x, y, k)
    distances = squared(x, y)
    check_balls(x, y, distances.kthvalue(k, 1).values, distances.kthvalue(min(k, len(x)), 0).values)
    check_balls(x, y, distances.median(1).values, distances.median(0).values)


SETS = {
    "gaussian": lambda n, d, s: normal32(n, d, seed=s),
    "duplicates": lambda n, d, s: normal32(-(-n // 20), d, seed=5).repeat(20, 1)[:n],
    "integers": lambda n, d, s: normal32(n, d, seed=s).round(),
    "offset": lambda n, d, s: 1e4 + normal32(n, d, seed=s),
    "tiny": lambda n, d, s: 1e-30 * normal32(n, d, seed=s),
    "subnormal": lambda n, d, s: 1e-42 * normal32(n, d, seed=s),
    "large": lambda n, d, s: 1e15 * normal32(n, d, seed=s),
    "overflowing": lambda n, d, s: 1e19 * normal32(n, d, seed=s),
    "largest": lambda n, d, s: 3e38 * normal32(n, d, seed=s).sign(),
    "mixed scales": lambda n, d, s: normal32(n, d, seed=s) * 10.0 ** (torch.arange(n) % 40 - 20)[:, None],
    "one far": lambda n, d, s: normal32(n, d, seed=s) * torch.where(torch.arange(n) == 3, 1e12, 1.0)[:, None],
    "tight clusters": lambda n, d, s: normal32(n, d, seed=s) * 1e-4 + normal32(5, d, seed=7)[torch.arange(n) % 5],
    "all the same": lambda n, d, s: torch.full((n, d), 0.1),
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("d", [1, 2, 65, 160])
def test_every_kind_of_set(name, d):
    check(SETS[name](130, d, 1), SETS[name](200, d, 2), 5)


@pytest.mark.parametrize("d", [0, 1, 2, 3, 64, 65, 512, 2048])
def test_every_number_of_features(d):
    n, m = (66, 130) if d < 1000 else (13, 65)
    check(normal32(n, d, seed=1), normal32(m, d, seed=2), 5)


@pytest.mark.parametrize("n", [1, 5, 63, 65, 300])
@pytest.mark.parametrize("m", [1, 5, 63, 65, 300])
def test_every_size(n, m):
    for k in {1, min(5, m), m}:
        check(normal32(n, 7, seed=1), normal32(m, 7, seed=2), k)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", SETS)
def test_instruction_sets(name, isa, restore):
    extension.set_isa(isa)
    check(SETS[name](70, 33, 1), SETS[name](130, 33, 2), 5)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("d", [2, 65, 600])
@pytest.mark.parametrize("relative", [1e-7, 1e-5, 1e-3, 1e-2])
def test_near_ties(d, relative, isa, restore):
    """All pairs within `relative` of the radius: points on a sphere about points near its center."""
    extension.set_isa(isa)
    center = normal32(1, d, seed=3)
    x = center + relative * normal32(70, d, seed=1) / d**0.5
    y = center + torch.nn.functional.normalize(normal32(130, d, seed=2)) * (1 + relative * normal32(130, 1, seed=4))
    check(x, y, 5)
    distances = squared(x, y)
    for radius in (1.0, float(distances.flatten()[77])):
        check_balls(x, y, torch.full((70,), radius).double(), torch.full((130,), radius).double())


def test_rounded_points_that_lie():
    """Distinct points that bfloat16 makes equal, and equal distances that it makes differ."""
    steps = torch.arange(-150, 150)[:, None]
    line = 1 + steps * 2.0**-20
    check(line[::3].contiguous(), line, 5)
    pairs = torch.cat([1.0 + steps * 2.0**-12, 1.0 - steps * 2.0**-12], 1)
    check(pairs[::3].contiguous(), pairs, 5)


@pytest.mark.parametrize("name", ["gaussian", "duplicates", "integers"])
def test_no_point_is_its_own_neighbor(name):
    x = SETS[name](150, 20, 1)
    check_nearest(x, x, 5, exclude_self=True)
    check_nearest(x, x, 149, exclude_self=True)


def test_ties_go_to_the_smaller_index():
    x = torch.zeros(300, 3)
    assert torch.equal(ops.nearest(x, x, 7).index, torch.arange(7).expand(300, 7))
    found = ops.nearest(x, x, 7, exclude_self=True).index
    assert found[0].tolist() == [1, 2, 3, 4, 5, 6, 7] and found[299].tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_radii():
    """Zero holds what is there, a negative one nothing, an infinite one all; no radii count nothing."""
    x, y = torch.zeros(70, 4), torch.zeros(90, 4)
    for radius, n in ((0.0, 1), (-0.0, 1), (-1e-300, 0), (torch.inf, 1)):
        radii = [torch.full((count,), radius, dtype=torch.float64) for count in (70, 90)]
        assert [int(c.sum()) for c in ops.balls(x, y, *radii)] == [6300 * n] * 4
        assert [int(c.sum()) for c in ops.balls(x, y, radii[0])] == [6300 * n] * 2 + [0] * 2
        assert [int(c.sum()) for c in ops.balls(x, y, None, radii[1])] == [0] * 2 + [6300 * n] * 2
    assert [int(c.sum()) for c in ops.balls(x, y)] == [0] * 4


@pytest.mark.parametrize(("n", "m"), [(0, 5), (5, 0), (0, 0)])
def test_empty_sets(n, m):
    radii = [torch.ones(count, dtype=torch.float64) for count in (n, m)]
    counts = ops.balls(torch.zeros(n, 3), torch.zeros(m, 3), *radii)
    assert [len(c) for c in counts] == [n, m, m, n] and not any(c.any() for c in counts)
    if m:
        assert ops.nearest(torch.zeros(n, 3), torch.zeros(m, 3), 2).index.shape == (n, 2)


def test_threads_and_splits(restore):
    x, y = normal32(500, 40, seed=1), normal32(300, 40, seed=2)
    radii = torch.full((500,), 60.0).double(), torch.full((300,), 60.0).double()
    torch.set_num_threads(1)
    one, counts = ops.nearest(x, y, 5), ops.balls(x, y, *radii)
    torch.set_num_threads(4)
    assert all(torch.equal(a, b) for a, b in zip(ops.nearest(x, y, 5), one, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(ops.balls(x, y, *radii), counts, strict=True))
    parts = [ops.balls(x[rows], y, radii[0][rows], radii[1]) for rows in (slice(0, 123), slice(123, 500))]
    assert torch.equal(parts[0].over_y + parts[1].over_y, counts.over_y)
    assert torch.equal(parts[0].in_y + parts[1].in_y, counts.in_y)


def test_more_rows_than_a_block():
    """Blocks of rows: a wide set is taken a few rows at a time."""
    x, y = normal32(2100, 3, seed=1), normal32(70, 3, seed=2)
    check_nearest(x, y, 5)
    radii = torch.full((2100,), 2.0).double(), torch.full((70,), 2.0).double()
    check_balls(x, y, *radii)
    wide = 5_003 if EMULATED else 200_003
    check(normal32(20, wide, seed=1), normal32(7, wide, seed=2), 3)


@pytest.mark.parametrize("k", [5, 700])
def test_few_rows_and_many_columns(k):
    """A GPU shares them out, and merges lists, some of which are shorter than k."""
    check(SETS["integers"](3, 2, 1), SETS["integers"](1300, 2, 2), k)


@pytest.mark.skipif(not EMULATED, reason="the shared memory of a GPU is what it is")
@pytest.mark.parametrize("kib", [48, 99])
def test_wide_and_narrow_tiles(kib, restore):
    """With 72 KiB of shared memory a block takes twice the columns."""
    extension.set_shared_memory(kib << 10)
    for name in ("gaussian", "tight clusters"):
        check(SETS[name](130, 97, 1), SETS[name](515, 97, 2), 5)


@pytest.mark.parametrize("name", ["duplicates", "tight clusters", "all the same", "one far"])
def test_more_candidates_than_are_listed(name):
    """A GPU lists 256 of the columns that it looks at after the first ones."""
    y = SETS[name](1500, 6, 2)
    check(SETS[name](30, 6, 1), y, 3)
    check_nearest(y[:40], y[:40].contiguous(), 30, exclude_self=True)


def test_sorted_sets():
    """What is near lies together, far from the first columns."""
    y = torch.cat([10 * normal32(1, 20, seed=s) + normal32(150, 20, seed=s + 1) for s in range(0, 20, 2)])
    check(y[::37].contiguous(), y, 9)
    check(y[::37].contiguous(), y.flip(0).contiguous(), 9)


def test_strided_sets_and_gradients():
    wide = normal32(50, 40, seed=1).requires_grad_()
    found = ops.nearest(wide[:, ::2], wide[:, ::2], 3)
    expected = ops.nearest(wide.detach()[:, ::2].contiguous(), wide.detach()[:, ::2].contiguous(), 3)
    assert torch.equal(found.index, expected.index) and not found.distance.requires_grad


def test_bad_input():
    x, y, radius = torch.zeros(3, 4), torch.zeros(5, 4), torch.ones(3, dtype=torch.float64)
    for k in (0, 6, -1):
        with pytest.raises(ValueError, match="k must be an integer from 1 to 5; got"):
            ops.nearest(x, y, k)
    assert torch.equal(ops.nearest(x, y, np.int64(2)).index, ops.nearest(x, y, 2).index)
    for k in (1.5, True, "2"):
        with pytest.raises(ValueError, match=f"k must be an integer from 1 to 5; got {k!r}"):
            ops.nearest(x, y, k)
    with pytest.raises(TypeError, match="nearest: x must be a tensor; got ndarray"):
        ops.nearest(x.numpy(), y, 2)
    with pytest.raises(TypeError, match="balls: y must be a tensor; got ndarray"):
        ops.balls(x, y.numpy())
    with pytest.raises(TypeError, match="balls: radius_x must be a tensor or None; got ndarray"):
        ops.balls(x, y, radius.numpy())
    with pytest.raises(ValueError, match="k must be an integer from 1 to 2; got 3"):
        ops.nearest(x, x, 3, exclude_self=True)
    with pytest.raises(ValueError, match="one set with exclude_self; got 3 and 5"):
        ops.nearest(x, y, 2, exclude_self=True)
    with pytest.raises(ValueError, match=r"x must be float32 of shape .* got torch.float64"):
        ops.nearest(x.double(), y, 2)
    with pytest.raises(ValueError, match=r"y must be float32 .* got torch.float32 of shape \(20,\)"):
        ops.balls(x, y.flatten())
    with pytest.raises(ValueError, match="as many features; got 4 and 3"):
        ops.balls(x, y[:, :3])
    with pytest.raises(ValueError, match=r"radius_x must be float64 of shape \(3,\).*got torch.float32"):
        ops.balls(x, y, radius.float())
    with pytest.raises(ValueError, match=r"radius_y must be float64 of shape \(5,\).*shape \(3,\)"):
        ops.balls(x, y, None, radius)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_not_finite(value):
    x, y = torch.zeros(3, 4), torch.zeros(5, 4)
    y[4, 2] = value
    with pytest.raises(RuntimeError, match=r"pairwise: y\[4, 2\] must be a finite number; got"):
        ops.nearest(x, y, 2)
    radius = torch.full((3,), 2.0, dtype=torch.float64)
    radius[1] = torch.nan
    with pytest.raises(RuntimeError, match=r"pairwise: radius_x\[1\] must be a squared radius; got nan"):
        ops.balls(x, torch.zeros(5, 4), radius)


@pytest.mark.skipif(EMULATED or not Path("/proc/self/status").exists(), reason="measures a Linux process")
def test_memory():
    """The N x M matrix would be 1.6 GB in float32; what is held is a few MiB a thread."""
    code = """
import re, torch
from pathlib import Path
from genfast import ops

def peak():  # what getrusage has began with that of the process that started this one
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])

torch.set_num_threads(1)
x, y = torch.rand(20_000, 4), torch.rand(20_000, 4)
radius = torch.zeros(20_000, dtype=torch.float64)
ops.nearest(x[:100], y[:100], 5), ops.kernel_sums(x[:100], y[:100], gamma=1.0)
before = peak()
ops.nearest(x, y, 1), ops.balls(x, y, radius, radius), ops.kernel_sums(x, y, gamma=1.0)
print(peak() - before)
"""
    package = str(Path(genfast.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([package, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 24 << 10  # KiB
