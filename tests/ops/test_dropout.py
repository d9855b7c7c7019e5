"""ops.dropout: what is special to it; accuracy, bits and gradients of every op are in test_ops.py."""

import pytest
import torch
from cases import channels_last
from helpers import normal32

from genfast import ops


def ones(*shape):
    return torch.ones(shape)


def test_what_is_kept_is_scaled():
    """With probability 1 - p, to 4 standard errors; the mean stays."""
    x, key = normal32(400, 300), ops.make_key(3, 400)
    for p in (0.0, 0.1, 0.5, 0.9):
        y = ops.dropout(x, key, p, 0)
        kept = y != 0
        assert abs(float(kept.double().mean()) - (1 - p)) <= 4 * (p * (1 - p) / x.numel()) ** 0.5
        assert torch.equal(y[kept], (x * (1 / (1 - p)))[kept])
    assert torch.equal(ops.dropout(x, key, 0.0, 0), x)


def test_the_mask_is_that_of_uniform():
    """Of seed, sample, layer and element, words of Philox of a purpose of their own."""
    key = ops.make_key(2**40 + 1, [7, 2**33])
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        y = ops.dropout(ones(2, 3, 5, 7).to(dtype), key, 0.25, 9)
        u = ops.uniform(key, (3, 5, 7), ops.Purpose.DROPOUT, 9)
        assert y.dtype == dtype and torch.equal(y != 0, u >= 0.25)
        assert torch.equal(y, ops.dropout_reference(ones(2, 3, 5, 7).to(dtype), u, 0.25))


def test_layers_rows_and_seeds_have_masks_of_their_own():
    def mask(seed, index, layer):
        return ops.dropout(ones(1, 4000), ops.make_key(seed, [index]), 0.5, layer)[0] != 0

    masks = [mask(0, 0, 0), mask(1, 0, 0), mask(0, 1, 0), mask(0, 0, 1), mask(0, 0, 2**24 - 1)]
    agreement = [float((a == b).double().mean()) for i, a in enumerate(masks) for b in masks[:i]]
    assert all(abs(share - 0.5) < 4 * 0.5 / 4000**0.5 for share in agreement)


def test_channels_last_has_the_same_mask():
    """Elements are logical: the last patch of pixels is not whole, and neither is the last channel's tile."""
    x, key = normal32(3, 5, 9, 11), ops.make_key(1, 3)
    assert torch.equal(ops.dropout(channels_last(x), key, 0.3, 2), ops.dropout(x, key, 0.3, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_gradient_is_the_mask(dtype):
    x, key = normal32(4, 6, 8, 8).to(dtype).requires_grad_(), ops.make_key(5, 4)
    y, dy = ops.dropout(x, key, 0.4, 1), normal32(4, 6, 8, 8, seed=1).to(dtype)
    (dx,) = torch.autograd.grad(y, x, channels_last(dy), create_graph=True)
    assert torch.equal(dx, ops.dropout(dy, key, 0.4, 1)) and not dx.requires_grad


def test_the_dropped_are_not_looked_at():
    """A value that is not finite is seen where it is kept, and has no part where it is not."""
    x, key = torch.full((2, 400), torch.nan), ops.make_key(0, 2)
    y, kept = ops.dropout(x, key, 0.5, 0), ops.dropout(ones(2, 400), key, 0.5, 0) != 0
    assert torch.equal(y.isnan(), kept) and not y[~kept].any()


def test_bad_input():
    x, key = ones(3, 4), ops.make_key(0, 3)
    with pytest.raises(ValueError, match=r"layer must be an integer from 0 to 2\^24 - 1; got -1"):
        ops.dropout(x, key, 0.5, -1)
    for p in (1.0, -0.1, float("nan"), "half"):
        with pytest.raises(ValueError, match=r"p must be a .*number.* got"):
            ops.dropout(x, key, p, 0)
    with pytest.raises(RuntimeError, match=r"dropout: key must have shape \(3, 2\); got \(2, 2\)"):
        ops.dropout(x, key[:2].contiguous(), 0.5, 0)
    with pytest.raises(RuntimeError, match="dropout: x must be float32, bfloat16 or float16; got int64"):
        ops.dropout(x.long(), key, 0.5, 0)
    with pytest.raises(RuntimeError, match=r"p must lie in \[0, 1"):
        torch.ops.genfast.dropout(x, key, 1.0, 8)
    with pytest.raises(TypeError, match="dropout: key must be a tensor; got int"):
        ops.dropout(x, 3, 0.5, 0)
