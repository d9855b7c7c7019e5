"""Dropout whose mask is a function of the row's key, not of a generator."""

import torch
from torch import Tensor

from ..common.checks import require_integer, require_number
from ..common.keys import require_key
from .dispatch import (
    composed,
    dense,
    in_layout_of,
    one_device,
    packed,
    register_fake,
    require_tensors,
    with_autograd,
)
from .noise import MAX_STEP, Purpose, stream, uniform


def dropout(x: Tensor, key: Tensor, p: float, layer: int) -> Tensor:
    r"""y_e = x_e / (1 - p) with probability 1 - p, else 0.

        y_be = x_be / (1 - p)  where u_be >= p,  else 0               u ~ U[0, 1) from (key_b, layer, e)

    Hinton et al. 2012, arXiv:1207.0580.  x: (B, *), float32, bfloat16 or float16, contiguous or channels-last (others
    are copied); e is the index in (C, H, W), whatever the memory format.  key: (B, 2), see `make_key`.  layer: 0 to
    2^24 - 1, a number for each place of a network that has a mask of its own.  p: [0, 1).  The mask of a row is the
    same in a batch of any size, on every device, and when a step is done again.

    Computed in float32 and rounded once.  Linear in x, and its own backward: the mask is drawn again, and nothing but
    the key is kept.  Differentiable any number of times.  float64 is computed by plain torch, with the same mask.
    Raises ValueError or RuntimeError naming the argument.
    """
    counter = stream(Purpose.DROPOUT, require_integer("layer", layer, 0, MAX_STEP))
    if (out := _quick(x, key, p, counter)) is not NotImplemented:
        return out
    require_tensors("dropout", x=x, key=key)
    p = require_number("p", p, least=0, below=1)
    if composed(x):
        require_key(key, len(x) if x.ndim else 0)
        one_device("dropout", x=x, key=key)
        return dropout_reference(x, in_layout_of(uniform(key, x.shape[1:], Purpose.DROPOUT, layer), x), p)
    return _fused(dense(x), *packed(key), p, counter)


def dropout_reference(x: Tensor, u: Tensor, p: float) -> Tensor:
    """`dropout` of given u, (B, *) float32, in plain torch."""
    return torch.where(u.float() < p, 0, x * (1 / (1 - p)))


@register_fake("dropout")
def _(x, key, p, stream):
    return torch.empty_like(x)


def _setup(ctx, inputs, output):
    _, key, ctx.p, ctx.stream = inputs
    ctx.save_for_backward(key)


def _backward(ctx, grad):
    (key,) = ctx.saved_tensors
    return _fused(dense(grad), key, ctx.p, ctx.stream), None, None, None


_quick, _fused = with_autograd("dropout", _setup, _backward)
