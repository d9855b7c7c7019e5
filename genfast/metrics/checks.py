"""What every metric asks of its arguments."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ..common.checks import require_floating

LOST = 1e-3  # of the spread of samples, to rounding, is too much
FEW, NEAR = 500, 20  # samples of which distances are looked at; the one part in 20 of them that is near, beyond copies


def matrix(x: Tensor | np.ndarray, name: str, dtype: torch.dtype, rows: int = 2) -> Tensor:
    """x as a detached tensor of this dtype, where it was. Raises TypeError or ValueError, naming the argument, for
    anything but a floating-point matrix of at least `rows` rows, finite in this dtype."""
    return _finite(_floating(x, name, rows), name, dtype)


def matrices(dtype: torch.dtype, rows: int = 2, **sets: Tensor | np.ndarray) -> list[Tensor]:
    """`matrix` of each, all of one width and where the first one is. Raises ValueError, too, where float32 is asked for
    and cannot hold the spread of float64 numbers, as of those far from the origin."""
    wide = _alike(rows, sets)
    answer = [_finite(x, name, dtype) for name, x in zip(sets, wide)]
    if dtype != torch.float64 and _any_float64(wide):
        pooled = torch.cat([x.double() for x in wide])
        spread = torch.linalg.vector_norm(pooled - _middle(pooled), dim=1)
        _require_kept(sets, pooled, torch.cat(answer), _typical(spread))
    return answer


def apart(rows: int = 2, **sets: Tensor | np.ndarray) -> tuple[list[Tensor], float]:
    """The sets in float32, as `matrices` has them, and the unit that they are in, for what looks at distances alone.

    In float32 they stay as they are, in units of 1. Of float64 a common origin, the median of the second set, is taken
    off before, and the unit is a power of two near the largest number that then is in that set: so float32 holds their
    spread, wherever they are and whatever their size. Raises ValueError where it does not: far clusters, narrow ones.
    """
    wide = _alike(rows, sets)
    if not _any_float64(wide):
        return [x.float() for x in wide], 1.0
    wide = [x.double() for x in wide]
    origin = _middle(wide[1])
    wide = [x - origin for x in wide]
    largest = float(wide[1].abs().max())
    unit = 2.0 ** (math.frexp(largest)[1] - 1) if 0 < largest < math.inf else 1.0
    wide = [x / unit for x in wide]
    answer = [_finite(x, name, torch.float32) for name, x in zip(sets, wide)]
    few = wide[1][:FEW]
    distance = torch.cdist(few, few, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(math.inf)
    _require_kept(sets, wide[1], answer[1], _typical(distance.sort(1).values[:, len(few) // NEAR]))
    return answer, unit


def _any_float64(sets: Iterable[Tensor]) -> bool:
    return any(x.dtype == torch.float64 for x in sets)


def _require_kept(names: Iterable[str], wide: Tensor, narrow: Tensor, spread: float) -> None:
    """Raises ValueError where the narrow one is off by more than a thousandth of the spread."""
    lost = _typical(torch.linalg.vector_norm(wide - narrow, dim=1))
    if lost > LOST * spread > 0:
        raise ValueError(
            f"{' and '.join(names)} must have a spread that float32 holds; got one of {spread:.2g}, of which rounding "
            f"takes {lost:.2g}: subtract a common mean, or scale them, in float64"
        )


def _alike(rows: int, sets: dict[str, Tensor | np.ndarray]) -> list[Tensor]:
    """The sets in their own dtype, finite, of one width and where the first one is."""
    checked = [(name, _floating(x, name, rows)) for name, x in sets.items()]
    first_name, first = checked[0]
    for name, x in checked:
        if x.shape[1] != first.shape[1]:
            raise ValueError(
                f"{name} must have {first.shape[1]} features per sample, as {first_name} has; got {x.shape[1]}"
            )
    return [_finite(x, name, x.dtype).to(first.device) for name, x in checked]


def _floating(x: Tensor | np.ndarray, name: str, rows: int) -> Tensor:
    x = require_floating(name, x).detach()
    if x.ndim != 2 or x.shape[0] < rows or x.shape[1] < 1:
        raise ValueError(f"{name} must have shape (N, D) with N of at least {rows}; got {tuple(x.shape)}")
    return x


def _finite(x: Tensor, name: str, dtype: torch.dtype) -> Tensor:
    x = x.to(dtype)
    if not torch.isfinite(x).all():
        raise ValueError(f"{name} must hold finite numbers; got NaN or infinity (as {dtype})")
    return x


def _middle(x: Tensor) -> Tensor:
    """The median of each column, which a few far rows do not move."""
    return x.sort(0).values[len(x) // 2]


def _typical(lengths: Tensor) -> float:
    """Their median."""
    return float(lengths.sort().values[len(lengths) // 2])
