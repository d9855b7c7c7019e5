"""Distances between all pairs of two sets, reduced on the spot: nearest neighbours, balls, kernel sums. No N x M
matrix is ever held.

Distances are those of float64 arithmetic, exactly: a pair is computed in low precision with an error bound first, and
in float64 only where that bound cannot decide.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_ROWS = 256  # of a block of the matrix, in plain torch


class Nearest(NamedTuple):
    """The k nearest: squared distances (N, k) float64, ascending, and indices (N, k) int64, ties by smaller index."""

    distance: Tensor
    index: Tensor


class Balls(NamedTuple):
    """Who lies in whose ball, each (N,) or (M,) int64; zeros where no radii were given.

    in_x: how many y lie in the ball around x_i.  over_y: how many balls around x contain y_j.
    in_y: how many x lie in the ball around y_j.  over_x: how many balls around y contain x_i.
    """

    in_x: Tensor
    over_y: Tensor
    in_y: Tensor
    over_x: Tensor


class KernelSums(NamedTuple):
    """sum_j k(x_i, y_j) and sum_j k(x_i, y_j)^2, each (N,) float64."""

    first: Tensor
    second: Tensor


def nearest(x: Tensor, y: Tensor, k: int, *, exclude_self: bool = False) -> Nearest:
    """The k points of y nearest to each point of x by Euclidean distance.

    x: (N, D) and y: (M, D) finite float32.  exclude_self: x and y are one set, and no point is its own neighbour.
    Raises ValueError naming the argument unless 1 <= k <= M (M - 1 with exclude_self).
    """
    return nearest_reference(x, y, k, exclude_self=exclude_self)


def balls(x: Tensor, y: Tensor, radius_x: Tensor | None = None, radius_y: Tensor | None = None) -> Balls:
    """Counts the pairs with |x_i - y_j|^2 <= radius_x_i, and those with |x_i - y_j|^2 <= radius_y_j, in one pass.

    x: (N, D) and y: (M, D) finite float32.  radius_x: (N,), radius_y: (M,) float64, SQUARED, as `nearest` gives them.
    """
    return balls_reference(x, y, radius_x, radius_y)


def kernel_sums(
    x: Tensor, y: Tensor, *, kernel: str = "polynomial", gamma: float, offset: float = 1.0, exclude_self: bool = False
) -> KernelSums:
    """Sums over y of a kernel and of its square.

    kernel: "polynomial", (gamma x.y + offset)^3, or "rbf", exp(-gamma |x - y|^2).  x: (N, D), y: (M, D) float32.
    """
    return kernel_sums_reference(x, y, kernel=kernel, gamma=gamma, offset=offset, exclude_self=exclude_self)


def _squared(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2, (N, M), by differences, in float64."""
    return torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist").square()


def nearest_reference(x: Tensor, y: Tensor, k: int, *, exclude_self: bool = False) -> Nearest:
    """`nearest` in plain torch."""
    parts = []
    for first in range(0, max(len(x), 1), _ROWS):
        squared = _squared(x[first : first + _ROWS], y)
        if exclude_self:
            squared.diagonal(first).fill_(torch.inf)
        parts.append(torch.sort(squared, 1, stable=True))
    return Nearest(torch.cat([p.values[:, :k] for p in parts]), torch.cat([p.indices[:, :k] for p in parts]))


def balls_reference(x: Tensor, y: Tensor, radius_x: Tensor | None = None, radius_y: Tensor | None = None) -> Balls:
    """`balls` in plain torch."""
    in_x, over_x = (torch.zeros(len(x), dtype=torch.int64, device=x.device) for _ in range(2))
    over_y, in_y = (torch.zeros(len(y), dtype=torch.int64, device=x.device) for _ in range(2))
    for first in range(0, len(x), _ROWS):
        rows = slice(first, first + _ROWS)
        squared = _squared(x[rows], y)
        if radius_x is not None:
            inside = squared <= radius_x[rows, None]
            in_x[rows], over_y = inside.sum(1), over_y + inside.sum(0)
        if radius_y is not None:
            inside = squared <= radius_y
            over_x[rows], in_y = inside.sum(1), in_y + inside.sum(0)
    return Balls(in_x, over_y, in_y, over_x)


def kernel_sums_reference(
    x: Tensor, y: Tensor, *, kernel: str = "polynomial", gamma: float, offset: float = 1.0, exclude_self: bool = False
) -> KernelSums:
    """`kernel_sums` in plain torch, in float64."""
    parts = []
    for first in range(0, max(len(x), 1), _ROWS):
        rows = x[first : first + _ROWS].double()
        if kernel == "polynomial":
            values = (gamma * rows @ y.double().T + offset) ** 3
        else:
            values = torch.exp(-gamma * _squared(rows, y))
        if exclude_self:
            values.diagonal(first).zero_()
        parts.append((values.sum(1), values.square().sum(1)))
    return KernelSums(torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]))
