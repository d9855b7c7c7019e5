"""Sinusoidal and Fourier features of time, the phase reduced exactly."""

import math

import torch
from torch import Tensor

from ..common.checks import require_bool, require_dtype, require_integer, require_number
from ..common.keys import make_key
from .dispatch import composed, register_fake, require_tensors, wants_grad, without_autograd
from .noise import Purpose, normal


def time_embedding(
    t: Tensor,
    frequencies: Tensor,
    *,
    flip: bool = False,
    log: bool = False,
    dim: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """[sin(t f_k), cos(t f_k), 0, ...], or with `flip` [cos, sin, 0, ...].  (B, dim) in float32, bfloat16 or float16.

    t: (B,) of any dtype.  frequencies: (K,) float64, radians per unit of t, best on the device of t; see
    `sinusoidal_frequencies`, `geometric_frequencies`, `gaussian_frequencies`.  A module's `.to(dtype)` would round
    them: `nn.conditioning.TimeFeatures` keeps them from it.  log: embeds log(t) / 4, as EDM does a sigma (Karras et
    al. 2022, arXiv:2206.00364, table 1).  dim: at least 2 K, which is the default.

    Turns are counted and taken off in float64, then sine and cosine are polynomials in float32: the error is below
    1e-7 up to |t f| = 1e8, and t = 1000 loses nothing.  A t that is not finite gives NaN.  A float64 t is computed in
    float64, by plain torch, and answered in it; a gradient in t or frequencies is computed so too.
    Raises ValueError or RuntimeError naming the argument for a wrong shape or dtype.
    """
    wide = t.double() if isinstance(t, Tensor) else t
    if wide is not t and isinstance(frequencies, Tensor) and log is False:
        width = 2 * frequencies.numel() if dim is None else dim
        if (out := _quick(wide, frequencies, width, flip, dtype)) is not NotImplemented:
            return out
    require_tensors("time_embedding", t=t, frequencies=frequencies)
    flip, log, dtype = require_bool("flip", flip), require_bool("log", log), require_dtype("dtype", dtype)
    if t.ndim != 1:
        raise ValueError(f"time_embedding: t must have shape (B,); got {tuple(t.shape)}")
    if frequencies.ndim != 1 or frequencies.dtype != torch.float64:
        came = f"{str(frequencies.dtype).removeprefix('torch.')} {tuple(frequencies.shape)}"
        raise ValueError(f"time_embedding: frequencies must be (K,) float64; got {came}")
    width = 2 * len(frequencies)
    width = width if dim is None else require_integer("dim", dim, width)
    frequencies = frequencies.to(t.device)
    if composed(t) or wants_grad(t, frequencies):
        out = time_embedding_reference(wide, frequencies, flip=flip, log=log, dim=dim)
        return out if t.dtype == torch.float64 else out.to(dtype)
    place = wide.log() / 4 if log else wide
    return _call(place.contiguous(), frequencies.contiguous(), width, flip, dtype)


def time_embedding_reference(
    t: Tensor, frequencies: Tensor, *, flip: bool = False, log: bool = False, dim: int | None = None
) -> Tensor:
    """`time_embedding` in plain torch, in the dtype of t."""
    angle = (t.log() / 4 if log else t)[:, None] * frequencies.to(t.dtype)
    waves = (angle.cos(), angle.sin()) if flip else (angle.sin(), angle.cos())
    padding = 0 if dim is None else dim - 2 * len(frequencies)
    return torch.nn.functional.pad(torch.cat(waves, 1), (0, padding))


def sinusoidal_frequencies(count: int, max_period: float = 10_000.0, shift: float = 0.0) -> Tensor:
    """f_k = max_period^(-k / (count - shift)), k < count.  (count,) float64.

    Vaswani et al. 2017, arXiv:1706.03762, section 3.5.  With shift = 1, as Ho et al. 2020, arXiv:2006.11239, have it,
    the last is 1 / max_period.  shift is diffusers' `downscale_freq_shift`.
    """
    count, max_period = require_integer("count", count, 1), require_number("max_period", max_period, above=0)
    shift = require_number("shift", shift, below=count)
    return torch.exp(-math.log(max_period) * torch.arange(count, dtype=torch.float64) / (count - shift))


def geometric_frequencies(count: int, first: float = 1.0, last: float = 100.0) -> Tensor:
    """`count` frequencies from `first` to `last`, each the same multiple of the one before.  (count,) float64."""
    count, first = require_integer("count", count, 1), require_number("first", first, above=0)
    last = require_number("last", last, above=0)
    return torch.exp(torch.linspace(math.log(first), math.log(last), count, dtype=torch.float64))


def gaussian_frequencies(count: int, scale: float = 16.0, seed: int = 0) -> Tensor:
    """f_k = 2 pi scale z_k with z ~ N(0, 1) of `seed`, the same on every machine.  (count,) float64.

    Tancik et al. 2020, arXiv:2006.10739; scale = 16 in Song et al. 2021, arXiv:2011.13456.
    """
    count, scale = require_integer("count", count, 0), require_number("scale", scale)
    key = make_key(seed, 1, torch.get_default_device())
    return 2 * math.pi * scale * normal(key, (count,), Purpose.FREQUENCY, dtype=torch.float64)[0]


_quick, _call = without_autograd("time_embedding")


@register_fake("time_embedding")
def _(t, frequencies, width, flip, dtype):
    return t.new_empty((t.shape[0], width), dtype=dtype)
