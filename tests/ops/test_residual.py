"""The sum at the end of a residual block: known values, both layouts, gradients, and what is refused."""

import pytest
import torch
from helpers import normal32

from genfast import ops

LAYOUTS = (torch.contiguous_format, torch.channels_last)
SHAPES = [(2, 3, 4, 5), (1, 8, 1, 1), (3, 16, 8, 8), (2, 5, 1, 7), (0, 4, 2, 2), (2, 4, 0, 2), (65, 64, 3, 3)]


def made(shape, layout, dtype):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(shape, generator=generator).to(dtype).contiguous(memory_format=layout) for _ in range(2))
    return x, y, torch.randn(shape[1], generator=generator)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_is_the_sum_rounded_once(shape, layout, dtype):
    x, y, bias = made(shape, layout, dtype)
    for b, scale in ((bias, 1.0), (bias, 0.5**0.5), (None, 0.25), (None, 1.0)):
        out = ops.residual(x, y, b, scale)
        column = 0 if b is None else b.reshape(-1, 1, 1)
        factor = torch.tensor(scale, dtype=torch.float32)
        assert torch.equal(out, (factor * (x.float() + (y.float() + column))).to(dtype))
        assert out.dtype == dtype and out.stride() == x.stride()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_are_those_of_torch(layout):
    x, y, bias = (t.requires_grad_() for t in made((3, 8, 4, 4), layout, torch.float32))
    for scale in (1.0, 0.3):
        weights = torch.linspace(-1, 1, x.numel()).reshape(x.shape)
        ours = torch.autograd.grad(ops.residual(x, y, bias, scale), (x, y, bias), weights)
        theirs = torch.autograd.grad(ops.residual_reference(x, y, bias, scale), (x, y, bias), weights)
        for own, their in zip(ours, theirs, strict=True):
            torch.testing.assert_close(own, their)


def test_a_bias_is_read_as_it_is():
    """The bits of the same numbers in float32, in either layout."""
    for dtype in (torch.bfloat16, torch.float16):
        x, y, bias = normal32(2, 16, 3, 5).to(dtype), normal32(2, 16, 3, 5, seed=1).to(dtype), normal32(16).to(dtype)
        for layout in (torch.contiguous_format, torch.channels_last):
            x, y = x.contiguous(memory_format=layout), y.contiguous(memory_format=layout)
            assert torch.equal(ops.residual(x, y, bias), ops.residual(x, y, bias.float()))


def test_other_layouts_dtypes_and_shapes():
    x, y, bias = made((2, 4, 6, 6), torch.contiguous_format, torch.float32)
    expected = ops.residual(x, y, bias)
    assert torch.equal(ops.residual(x, y.contiguous(memory_format=torch.channels_last), bias), expected)
    assert torch.equal(ops.residual(x.transpose(2, 3), y.transpose(2, 3), bias), expected.transpose(2, 3))
    assert ops.residual(x, y.bfloat16()).dtype == torch.float32
    assert ops.residual(x.double(), y.double(), bias).dtype == torch.float64
    tokens = torch.randn(2, 10, 6)
    assert torch.equal(ops.residual(tokens, tokens, scale=0.5), tokens)
    assert torch.equal(ops.residual(torch.tensor([-0.0]), torch.tensor([-0.0])).signbit(), torch.tensor([True]))


def test_what_is_wrong_is_named():
    x = torch.randn(2, 4, 3)
    for args, words in (
        ((x, x[:1]), "y must have the shape of x"),
        ((x, x, x[0, 0]), r"bias \(C,\)"),
        ((x[0, 0], x[0, 0], x[0, 0]), r"bias \(C,\)"),
        ((x, x, None, "1"), "scale"),
        ((x, x, None, float("nan")), "scale"),
    ):
        with pytest.raises((ValueError, RuntimeError, TypeError), match=words):
            ops.residual(*args)
    with pytest.raises(TypeError, match="y must be a tensor"):
        ops.residual(x, 3)
