"""What every metric asks of its arguments."""

import math
from numbers import Integral

import numpy as np
import torch
from torch import Tensor


def matrix(x: Tensor | np.ndarray, name: str, dtype: torch.dtype, rows: int = 2) -> Tensor:
    """x as a detached tensor of this dtype, where it was. Raises TypeError or ValueError, naming the argument, for
    anything but a floating-point matrix of at least `rows` rows, finite in this dtype."""
    if not isinstance(x, torch.Tensor | np.ndarray):
        raise TypeError(f"{name}: expected a tensor or an array, got {type(x).__name__}")
    x = torch.as_tensor(x).detach()
    if not x.is_floating_point():
        raise TypeError(f"{name}: expected floating-point numbers, got {x.dtype}")
    if x.ndim != 2 or x.shape[0] < rows or x.shape[1] < 1:
        raise ValueError(f"{name}: expected shape (N, D) with N of at least {rows}, got {tuple(x.shape)}")
    x = x.to(dtype)
    if not torch.isfinite(x).all():
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity (as {dtype})")
    return x


def matrices(dtype: torch.dtype, rows: int = 2, **sets: Tensor | np.ndarray) -> list[Tensor]:
    """`matrix` of each, all of one width and where the first one is."""
    checked = {name: matrix(x, name, dtype, rows) for name, x in sets.items()}
    (first_name, first), *others = checked.items()
    for name, x in others:
        if x.shape[1] != first.shape[1]:
            raise ValueError(
                f"{name}: expected {first.shape[1]} features per sample, as {first_name} has, got {x.shape[1]}"
            )
    return [x.to(first.device) for x in checked.values()]


def integer(value: int, name: str, least: int, below: float = math.inf) -> int:
    """value, an integer in [least, below), or an error; NumPy's are taken too."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not least <= value < below:
        expected = f"of at least {least}" if below == math.inf else f"in [{least}, {below})"
        raise ValueError(f"{name}: expected an integer {expected}, got {value!r}")
    return int(value)


def seed(value: int) -> int:
    """value, an integer in [0, 2^63), or an error."""
    return integer(value, "seed", 0, 2**63)
