"""ops.kernel_sums against float64: accuracy, one order of sums for every instruction set, what is left out."""

import math

import pytest
import torch
from cases import ISAS
from helpers import normal32

from genfast import ops
from genfast._extension import extension

KERNELS = {"polynomial": 1.0, "rbf": 0.5}  # gamma times the number of features
every_kernel = pytest.mark.parametrize("kernel", KERNELS)


def check(x, y, **options):
    found, expected = ops.kernel_sums(x, y, **options), ops.kernel_sums_reference(x, y, **options)
    for a, b, values in zip(found, expected, ("k", "k^2"), strict=True):
        assert a.dtype == torch.float64 and a.shape == (len(x),)
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0, msg=lambda text, of=values: f"{of}: {text}")
    return found


@every_kernel
@pytest.mark.parametrize("d", [0, 1, 2, 3, 64, 65, 255, 257, 512, 2048])
def test_every_number_of_features(kernel, d):
    n, m = (66, 130) if d < 1000 else (13, 65)
    check(normal32(n, d, seed=1).abs(), normal32(m, d, seed=2).abs(), kernel=kernel, gamma=KERNELS[kernel] / max(d, 1))


@every_kernel
@pytest.mark.parametrize("n", [1, 5, 63, 65, 300])
@pytest.mark.parametrize("m", [1, 5, 63, 65, 300, 4097, 9000])
def test_every_size(kernel, n, m):
    gamma = KERNELS[kernel] / 7
    found = check(normal32(n, 7, seed=1), normal32(m, 7, seed=2), kernel=kernel, gamma=gamma)
    if n == m:
        left_out = check(normal32(n, 7, seed=1), normal32(m, 7, seed=2), kernel=kernel, gamma=gamma, exclude_self=True)
        assert n == 1 or not torch.equal(found.first, left_out.first)


@every_kernel
def test_known_answers(kernel):
    """All points the same: M times the kernel of a point with itself."""
    x = torch.full((70, 4), 0.5)
    value = (2.0 * 4 * 0.25 + 3.0) ** 3 if kernel == "polynomial" else 1.0
    found = ops.kernel_sums(x, x, kernel=kernel, gamma=2.0, offset=3.0)
    assert torch.equal(found.first, torch.full((70,), 70 * value).double())
    assert torch.equal(found.second, torch.full((70,), 70 * value**2).double())
    found = ops.kernel_sums(x, x, kernel=kernel, gamma=2.0, offset=3.0, exclude_self=True)
    assert torch.equal(found.first, torch.full((70,), 69 * value).double())
    assert torch.equal(ops.kernel_sums(x, x[:0], kernel=kernel, gamma=2.0).first, torch.zeros(70).double())
    assert ops.kernel_sums(x[:0], x, kernel=kernel, gamma=2.0).first.shape == (0,)


def test_rbf_does_not_cancel():
    """Far from the origin |x|^2 + |y|^2 - 2 x.y would have no digit left."""
    check(1e4 + normal32(70, 65, seed=1), 1e4 + normal32(130, 65, seed=2), kernel="rbf", gamma=0.5 / 65)


def test_rbf_of_far_points():
    """e^-x of all sizes, down to where it vanishes."""
    x, y = torch.zeros(1, 1), torch.linspace(0, 40, 257)[:, None]
    for j in range(257):
        expected = math.exp(-0.5 * float(y[j]) ** 2)
        found = float(ops.kernel_sums(x, y[j : j + 1], kernel="rbf", gamma=0.5).first)
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-303), float(y[j])


@every_kernel
def test_instruction_sets_threads_and_splits_agree(kernel, restore):
    x, y, options = (
        normal32(300, 300, seed=1),
        normal32(4200, 300, seed=2),
        {"kernel": kernel, "gamma": KERNELS[kernel] / 300},
    )
    torch.set_num_threads(1)
    whole = ops.kernel_sums(x, y, **options)
    for isa in ISAS:
        extension.set_isa(isa)
        part = ops.kernel_sums(x[17:60], y, **options)
        assert all(torch.equal(a, b[17:60]) for a, b in zip(part, whole, strict=True)), isa
    extension.set_isa(extension.best_isa())
    torch.set_num_threads(4)
    assert all(torch.equal(a, b) for a, b in zip(ops.kernel_sums(x, y, **options), whole, strict=True))


def test_bad_input():
    x, y = torch.zeros(3, 4), torch.zeros(5, 4)
    for options, message in (
        ({"kernel": "linear", "gamma": 1.0}, "kernel must be one of polynomial, rbf; got 'linear'"),
        ({"gamma": math.nan}, "gamma must be a finite number; got nan"),
        ({"kernel": "rbf", "gamma": -1.0}, "gamma must be a finite number of at least 0; got -1.0"),
        ({"gamma": 1.0, "offset": math.inf}, "offset must be a finite number; got inf"),
        ({"gamma": 1.0, "exclude_self": True}, "one set with exclude_self; got 3 and 5 points"),
    ):
        with pytest.raises(ValueError, match=message):
            ops.kernel_sums(x, y, **options)
    with pytest.raises(ValueError, match=r"kernel_sums: x must be float32 .* got torch.float64"):
        ops.kernel_sums(x.double(), y, gamma=1.0)
