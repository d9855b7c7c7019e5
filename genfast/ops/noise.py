r"""Noise that is a pure function of (seed, sample index, step, purpose, element).

Philox4x32-10 (Salmon et al. 2011) with key = seed and counter (element >> 2, step << 8 | purpose, sample low, sample
high); element e takes word e & 3.  Normals are Box-Muller in IEEE operations only, so that every CPU and GPU gives the
same bits. An element is the logical (C, H, W) index, whatever the memory format.
"""

import functools
from collections.abc import Sequence
from enum import IntEnum

import torch
from torch import Tensor

from ..common.checks import LARGEST, is_integer, require_bool, require_dtype, require_integer, shown
from ..common.keys import require_key
from .dispatch import in_layout_of, one_device, packed, register_fake, require_tensors, without_autograd

MAX_STEP = 2**24 - 1


class Purpose(IntEnum):
    """What a draw is for: draws of different purposes are independent."""

    PRIOR = 0
    STEP = 1
    CHURN = 2
    CORRECTOR = 3
    TRAIN = 4
    TIME = 5
    DEQUANTIZE = 6
    LATENT = 7
    DROPOUT = 8
    LABEL = 9
    PROBE = 10
    BROWNIAN = 11
    KNOWN = 12
    FREQUENCY = 13
    AUGMENT = 14


_PLAIN = (int, Purpose)


def stream(purpose: int, step: int = 0) -> int:
    """The counter word step << 8 | purpose.  step: 0 to 2^24 - 1; purpose: a `Purpose`, or any number from 0 to 255."""
    if type(step) is int and type(purpose) in _PLAIN and 0 <= step <= MAX_STEP and 0 <= purpose <= 255:  # at every call
        return step << 8 | purpose
    return require_integer("step", step, 0, MAX_STEP) << 8 | require_integer("purpose", purpose, 0, 255)


def split_stream(stream: int) -> tuple[int, int]:
    """(purpose, step) of a `stream`, which may also be the int32 of the same bits."""
    stream = require_integer("stream", stream, -(2**31), 2**32 - 1)
    return stream & 0xFF, stream >> 8 & MAX_STEP


def _lengths(shape: Sequence[int]) -> list[int]:
    """The shape as a list. Raises ValueError for what is none; lengths may be torch's symbols for them."""
    lengths = shape if isinstance(shape, tuple | list) else [None]
    if not all(isinstance(n, torch.SymInt) or (is_integer(n) and abs(int(n)) <= LARGEST) for n in lengths):
        raise ValueError(f"shape must be a sequence of integers; got {shown(shape)}")
    return list(lengths)


def _noise(key: Tensor, shape: Sequence[int], purpose: int, step: int, dtype: torch.dtype, uniform: bool) -> Tensor:
    counter = stream(purpose, step)
    if (out := _quick(key, shape, counter, uniform, dtype)) is not NotImplemented:
        return out
    require_tensors("uniform" if uniform else "normal", key=key)
    dtype = require_dtype("dtype", dtype)
    wide = dtype == torch.float64  # the float32 number, widened: every dtype sees the same noise
    out = _call(*packed(key), _lengths(shape), counter, uniform, torch.float32 if wide else dtype)
    return out.double() if wide else out


def normal(
    key: Tensor, shape: Sequence[int], purpose: int = Purpose.STEP, step: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """z ~ N(0, I), (B, *shape): row b is that of key[b], whatever the other rows are.

    Made in float32 (|z| <= 6.77) and rounded to `dtype`: float32, bfloat16, float16, or float64, which is float32
    widened. Raises ValueError for a step or purpose out of range, RuntimeError for a key that is not int64 (B, 2).
    """
    return _noise(key, shape, purpose, step, dtype, uniform=False)


def uniform(
    key: Tensor, shape: Sequence[int], purpose: int = Purpose.STEP, step: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """u ~ U[0, 1), (B, *shape), multiples of 2^-24 (rounded to `dtype`, so 1 can occur in bfloat16 and float16)."""
    return _noise(key, shape, purpose, step, dtype, uniform=True)


def noise_like(x: Tensor, key: Tensor, purpose: int, step: int) -> Tensor:
    """`normal` in the shape and memory format of x, float64 if x is, otherwise float32. Raises an error naming the
    key unless it has a row for each of x, on its device."""
    require_key(key, len(x))
    one_device("noise", x=x, key=key)
    dtype = torch.promote_types(x.dtype, torch.float32)
    return in_layout_of(normal(key, x.shape[1:], purpose, step, dtype), x)


def _words(seed: int, c0: Tensor, c1: int, sample: int) -> list[Tensor]:
    """Philox4x32-10 in int64 arithmetic."""
    mask = 0xFFFFFFFF
    x, y, z, w = c0, torch.full_like(c0, c1), torch.full_like(c0, sample & mask), torch.full_like(c0, sample >> 32)
    k0, k1 = seed & mask, seed >> 32

    def high_low(a: Tensor, m: int) -> tuple[Tensor, Tensor]:  # the halves of a 64-bit product, without overflow
        low, mid = (a & 0xFFFF) * m, (a >> 16) * m
        total = mid + (low >> 16)
        return total >> 16, ((total & 0xFFFF) << 16) | (low & 0xFFFF)

    for _ in range(10):
        (p1, p0), (q1, q0) = high_low(x, 0xD2511F53), high_low(z, 0xCD9E8D57)
        x, y, z, w = q1 ^ y ^ k0, q0, p1 ^ w ^ k1, p0
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return [x, y, z, w]


def noise_reference(key: Tensor, shape: Sequence[int], purpose: int, step: int = 0, uniform: bool = False) -> Tensor:
    """`normal` or `uniform` in float64, in plain torch: the textbook Box-Muller of the same words."""
    require_tensors("noise_reference", key=key)
    shape, uniform = _lengths(shape), require_bool("uniform", uniform)
    require_key(key, len(key) if key.ndim else 0)
    count = int(torch.Size(shape).numel())
    rows = []
    for seed, sample in key.tolist():
        words = _words(seed, torch.arange((count + 3) // 4, device="cpu"), stream(purpose, step), sample)
        if uniform:
            values = [(w >> 8).double() * 2.0**-24 for w in words]
        else:
            values = []
            for r1, r2 in ((words[0], words[1]), (words[2], words[3])):
                radius = (-2 * (r1.float().double() * 2.0**-32 + 2.0**-33).clamp_max(1).log()).sqrt()
                signed = ((r2 << 2) & 0xFFFFFFFF) - (((r2 >> 29) & 1) << 32)
                angle = (signed.double() * 2.0**-31 + 1) * (torch.pi / 4)
                values += [
                    radius * angle.cos() * (1 - 2 * (r2 >> 31)),
                    radius * angle.sin() * (1 - 2 * ((r2 >> 30) & 1)),
                ]
        rows.append(torch.stack(values, 1).flatten()[:count].reshape(shape))
    return torch.stack(rows) if rows else torch.empty(0, *shape, dtype=torch.float64, device="cpu")


_quick, _call = without_autograd("noise")


@register_fake("noise")
def _(key, size, stream, uniform, dtype):
    return key.new_empty([key.shape[0], *size], dtype=dtype)


@functools.partial(torch.library.register_vmap, "genfast::noise")
def _(info, in_dims, key, size, stream, uniform, dtype):
    """Noise is by rows of keys: the mapped dimension is one more of them."""
    key = key.movedim(in_dims[0], 0)
    rows = torch.ops.genfast.noise(key.flatten(0, 1).contiguous(), size, stream, uniform, dtype)
    return rows.unflatten(0, key.shape[:2]), 0
