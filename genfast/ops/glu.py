"""Gated linear units: one half of the features gates the other."""

import torch.nn.functional as F
from torch import Tensor


def geglu(x: Tensor) -> Tensor:
    """y = a GELU(b), with [a, b] = x along the last dimension.  x: (*, 2 D) -> (*, D)."""
    a, b = x.chunk(2, -1)
    return a * F.gelu(b)


def swiglu(x: Tensor) -> Tensor:
    """y = SiLU(a) b, with [a, b] = x along the last dimension.  x: (*, 2 D) -> (*, D)."""
    a, b = x.chunk(2, -1)
    return F.silu(a) * b
