"""What every metric asks of its arguments."""

import numpy as np
import torch
from torch import Tensor


def matrix(x: Tensor | np.ndarray, name: str, dtype: torch.dtype, rows: int = 2) -> Tensor:
    """x as a detached tensor of this dtype, where it was. Raises TypeError or ValueError, naming the argument, for
    anything but a floating-point matrix of at least `rows` rows, finite in this dtype."""
    if not isinstance(x, torch.Tensor | np.ndarray):
        raise TypeError(f"{name} must be a tensor or an array; got {type(x).__name__}")
    x = torch.as_tensor(x).detach()
    if not x.is_floating_point():
        raise TypeError(f"{name} must hold floating-point numbers; got {x.dtype}")
    if x.ndim != 2 or x.shape[0] < rows or x.shape[1] < 1:
        raise ValueError(f"{name} must have shape (N, D) with N of at least {rows}; got {tuple(x.shape)}")
    x = x.to(dtype)
    if not torch.isfinite(x).all():
        raise ValueError(f"{name} must hold finite numbers; got NaN or infinity (as {dtype})")
    return x


def matrices(dtype: torch.dtype, rows: int = 2, **sets: Tensor | np.ndarray) -> list[Tensor]:
    """`matrix` of each, all of one width and where the first one is."""
    checked = {name: matrix(x, name, dtype, rows) for name, x in sets.items()}
    (first_name, first), *others = checked.items()
    for name, x in others:
        if x.shape[1] != first.shape[1]:
            raise ValueError(
                f"{name} must have {first.shape[1]} features per sample, as {first_name} has; got {x.shape[1]}"
            )
    return [x.to(first.device) for x in checked.values()]
