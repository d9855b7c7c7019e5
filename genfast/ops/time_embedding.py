"""Sinusoidal and Fourier features of time, the phase reduced exactly."""

import math

import torch
from torch import Tensor


def time_embedding(t: Tensor, frequencies: Tensor, *, flip: bool = False, dtype: torch.dtype = torch.float32) -> Tensor:
    """[sin(t f_k), cos(t f_k)], or with `flip` [cos, sin].  t: (B,); frequencies: (K,) float64, radians per unit of t.

    Returns (B, 2 K) in `dtype`.  See `frequencies` for the usual ones.
    """
    angle = t.double()[:, None] * frequencies.to(t.device)
    waves = (angle.cos(), angle.sin()) if flip else (angle.sin(), angle.cos())
    return torch.cat(waves, 1).to(torch.float64 if t.dtype == torch.float64 else dtype)


def sinusoidal_frequencies(count: int, max_period: float = 10_000.0, shift: float = 0.0) -> Tensor:
    """f_k = max_period^(-k / (count - shift)), k < count.  (count,) float64."""
    return torch.exp(-math.log(max_period) * torch.arange(count, dtype=torch.float64) / (count - shift))
