"""Shared by the tests that go through the Cases of ops: calls of them, the instruction sets of this machine, and the
ways in which tensors may lie."""

import torch

from genfast._extension import extension
from genfast.testing import to
from genfast.verification import invariance

ISAS = invariance.ISAS[: invariance.ISAS.index(extension.best_isa()) + 1]


def make(case, shape=(5, 65), dtype=torch.float32, seed=0):
    return case.inputs(shape, dtype, torch.Generator().manual_seed(seed))


def run(case, args):
    """The op on copies of its arguments, so that an in-place op leaves them alone."""
    return case.op(**to(args, torch.clone))


def equal(a, b):
    """The same bits; the loss of a sample without elements is NaN, as its mean is in torch."""
    return all(x.dtype == y.dtype and torch.equal(x.nan_to_num(7), y.nan_to_num(7)) for x, y in zip(a, b, strict=True))


def widen(args):
    """The arguments in float64."""
    wide = to(args, lambda t: t.double() if t.is_floating_point() else t)
    return wide | ({"dtype": torch.float64} if "dtype" in wide else {})


def channels_last(t):
    if t.ndim == 5:  # history, k: each slot
        return t.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    return t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t


def sliced(t):
    return t.repeat_interleave(2, -1)[..., ::2] if t.ndim else t


def transposed(t):
    return t.mT.contiguous().mT if t.ndim > 1 else sliced(t)


def expanded(t):
    """The first row for all."""
    return t[:1].expand_as(t) if t.ndim else t


def shifted(t):
    """Dense, and not at a multiple of 16 bytes, which is what a kernel moves at a time."""
    t = t.clone()
    return t.new_empty(t.numel() + 1).as_strided(t.size(), t.stride(), 1).copy_(t)
