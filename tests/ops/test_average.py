"""Averages of many tensors at once: what the case of test_ops.py, with equal tensors and one layout, does not have."""

import copy

import pytest
import torch
from torch.overrides import BaseTorchFunctionMode

from genfast import ops
from genfast.testing import no_host_reads

WEIGHTS = torch.tensor([0.3, 0.0, 1.0, 0.9])
SHAPES = [(), (1,), (0,), (64,), (65, 3), (2, 3, 5, 7), (4, 8, 3, 3), (4099,), (3, 0, 2)]


def made(dtype=torch.float32, layout=torch.contiguous_format, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(shape, generator=generator, dtype=dtype) for shape in SHAPES]
    values = [v.contiguous(memory_format=layout) if v.ndim == 4 else v for v in values]
    stacks = [[torch.empty_like(v).copy_(v * (k + 2) - 1) for k in range(4)] for v in values]
    rooms = [torch.empty(4, v.numel() + 5, dtype=dtype) for v in values]
    averages = [room.as_strided((4, *v.shape), (room.stride(0), *v.stride())) for room, v in zip(rooms, values)]
    for average, stack in zip(averages, stacks):
        for k in range(4):
            average[k].copy_(stack[k])
    return averages, values


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("threads", [1, 2])
def test_tensors_of_any_shape(layout, threads, restore):
    torch.set_num_threads(threads)
    averages, values = made(layout=layout)
    before = [a.double() for a in averages]
    ops.average(averages, values, WEIGHTS)
    for a, b, v in zip(averages, before, values):
        for k, weight in enumerate(WEIGHTS.double()):
            expected = b[k] + weight * (v.double() - b[k])
            torch.testing.assert_close(a[k], expected.float(), rtol=3e-7, atol=3e-7)
        assert torch.equal(a[1], b[1].float()) and torch.equal(a[2], v)


def test_what_lies_otherwise_is_copied():
    """Values of other strides than their averages, through either way in, and those that want a gradient."""
    expected, values = made()
    ops.average(expected, values, WEIGHTS)
    for change in (
        lambda v: (
            v.to(memory_format=torch.channels_last) if v.ndim == 4 else v.mT.contiguous().mT if v.ndim == 2 else v
        ),
        lambda v: v.repeat_interleave(2, -1)[..., ::2] if v.ndim else v,
        lambda v: v.clone().requires_grad_(),
    ):
        averages, values = made()
        ops.average(averages, [change(v) for v in values], WEIGHTS)
        assert all(map(torch.equal, averages, expected)) and not any(a.requires_grad for a in averages)
    averages, values = made()
    with BaseTorchFunctionMode():  # through the dispatcher
        ops.average(averages, values, WEIGHTS)
    assert all(map(torch.equal, averages, expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_without_a_weight_an_average_stays_as_it_is(dtype, bad):
    averages, values = made(dtype)
    before = copy.deepcopy(averages)
    spoiled = [torch.full_like(v, bad) for v in values]
    for weight in (0.0, -0.0, torch.nan, -0.5):
        ops.average(averages, spoiled, torch.full((4,), weight, dtype=dtype))
        assert all(map(torch.equal, averages, before))


def test_a_whole_weight_replaces_whatever_there_was():
    averages, values = made()
    for a in averages:
        a.fill_(torch.nan)
    ops.average(averages, values, torch.ones(4))
    assert all(torch.equal(a[k], v) for a, v in zip(averages, values) for k in range(4))


def test_the_host_reads_nothing():
    averages, values = made()
    with no_host_reads(on="cpu"):
        ops.average(averages, values, WEIGHTS)


def test_autograd_hears_of_what_is_written():
    averages, values = made()
    versions = [a._version for a in averages]
    ops.average(averages, values, WEIGHTS)
    assert all(a._version > version for a, version in zip(averages, versions))


A, V = torch.zeros(2, 3, 4), torch.ones(3, 4)
WRONG = {
    "averages": (lambda: (A, [V], torch.ones(2)), TypeError, "averages must be a list of tensors; got Tensor"),
    "values": (lambda: ([A], V, torch.ones(2)), TypeError, "values must be a list of tensors; got Tensor"),
    "one of values": (lambda: ([A], [None], torch.ones(2)), TypeError, r"values\[0\] must be a tensor; got NoneType"),
    "weights": (lambda: ([A], [V], 0.5), TypeError, "weights must be a tensor; got float"),
    "count": (lambda: ([A], [V, V], torch.ones(2)), RuntimeError, "values must be as many as averages, 1; got 2"),
    "lengths": (lambda: ([A], [V], torch.ones(3)), RuntimeError, r"averages\[i\] must have shape \(3, \*values\[i\]"),
    "shape": (lambda: ([A, A], [V, V.T], torch.ones(2)), RuntimeError, r"averages\[i\] must have shape .*\(i = 1\)"),
    "dtype": (lambda: ([A], [V.half()], torch.ones(2)), RuntimeError, r"values\[i\] must be float32; got.*\(i = 0\)"),
    "device": (lambda: ([A], [V.to("meta")], torch.ones(2)), RuntimeError, r"values\[i\] must be .* on cpu"),
    "gaps": (lambda: ([A[..., ::2]], [V[:, ::2]], torch.ones(2)), RuntimeError, r"averages\[i\] must be contiguous or"),
    "one for all": (lambda: ([A[:1].expand(2, 3, 4)], [V], torch.ones(2)), RuntimeError, r"averages\[i\] must lie in"),
    "itself": (lambda: ([A], [A[1]], torch.ones(2)), RuntimeError, r"averages\[i\], .* not share memory with values\["),
    "wide": (lambda: ([A.double()], [V], torch.ones(2)), RuntimeError, r"values\[i\] must be|averages\[i\] must be"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_wrong_arguments(what):
    make, error, words = WRONG[what]
    averages, values, weights = make()
    before = A.clone()
    with pytest.raises(error, match=f"average: {words}"):
        ops.average(averages, values, weights)
    assert torch.equal(A, before)


def test_nothing_to_do():
    ops.average([], [], WEIGHTS)
    ops.average([torch.zeros(0, 3)], [torch.ones(3)], torch.ones(0))
