"""Distances between all pairs of two sets, reduced on the spot: nearest neighbors and balls. No N x M matrix is ever
held.

Distances are those of float64 arithmetic, exactly: a pair is computed in low precision with an error bound first, and
in float64, in one order of summation, only where that bound cannot decide.  So every device, instruction set, split of
a set and number of threads gives the same bits.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..common.checks import require_bool, require_integer
from .dispatch import map_by_a_loop, register_fake, require_optional, require_tensors

ROWS = 256  # of a block of the matrix, in plain torch


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


def nearest(x: Tensor, y: Tensor, k: int, *, exclude_self: bool = False) -> Nearest:
    """The k points of y nearest to each point of x by Euclidean distance.

    x: (N, D) and y: (M, D) finite float32.  exclude_self: x and y are one set, and no point is its own neighbor.
    Not differentiable.  Raises ValueError naming the argument unless 1 <= k <= M (M - 1 with exclude_self) and the sets
    are such; TypeError for sets that are no tensors; RuntimeError for a number that is not finite, where it is in the
    memory of the host.
    """
    check_sets("nearest", x, y)
    exclude_self = require_bool("exclude_self", exclude_self)
    if exclude_self and len(x) != len(y):
        raise ValueError(f"nearest: x and y must be one set with exclude_self; got {len(x)} and {len(y)} points")
    most = len(y) - exclude_self
    if most < 1:
        raise ValueError(f"nearest: y must have a point that can be a neighbor; got {len(y)}")
    k = require_integer("k", k, 1, most)
    distance, index, _, _ = torch.ops.genfast.pairwise(*_dense(x, y), None, None, k, exclude_self)
    return Nearest(distance, index)


def balls(x: Tensor, y: Tensor, radius_x: Tensor | None = None, radius_y: Tensor | None = None) -> Balls:
    """Counts the pairs with |x_i - y_j|^2 <= radius_x_i, and those with |x_i - y_j|^2 <= radius_y_j, in one pass.

    x: (N, D) and y: (M, D) finite float32.  radius_x: (N,), radius_y: (M,) float64, SQUARED, as `nearest` gives them;
    a negative one is an empty ball.  Not differentiable.  Raises ValueError naming the argument, TypeError for anything
    but tensors, RuntimeError as `nearest`.
    """
    check_sets("balls", x, y)
    require_optional("balls", radius_x=radius_x, radius_y=radius_y)
    for name, radius, points in (("radius_x", radius_x, x), ("radius_y", radius_y, y)):
        if radius is not None and (radius.dtype != torch.float64 or radius.shape != points.shape[:1]):
            raise ValueError(
                f"balls: {name} must be float64 of shape ({len(points)},), squared radii; "
                f"got {radius.dtype} of shape {tuple(radius.shape)}"
            )
    _, _, of_x, of_y = torch.ops.genfast.pairwise(*_dense(x, y, radius_x, radius_y), 0, False)
    return Balls(of_x[0], of_y[0], of_y[1], of_x[1])


def check_sets(op: str, x: Tensor, y: Tensor) -> None:
    """Raises TypeError unless x and y are tensors, ValueError unless they are (N, D) and (M, D) float32."""
    require_tensors(op, x=x, y=y)
    for name, points in (("x", x), ("y", y)):
        if points.ndim != 2 or points.dtype != torch.float32:
            raise ValueError(
                f"{op}: {name} must be float32 of shape (points, features); got {points.dtype} of shape "
                f"{tuple(points.shape)}"
            )
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"{op}: x and y must have as many features; got {x.shape[1]} and {y.shape[1]}")


def _dense(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if t is None else t.detach().contiguous() for t in tensors]


@register_fake("pairwise")
def _(x, y, radius_x, radius_y, k, exclude_self):
    def empty(*size, dtype=torch.int64):
        return x.new_empty(size, dtype=dtype)

    n, m = (0, 0) if k else (len(x), len(y))
    return empty(len(x), k, dtype=torch.float64), empty(len(x), k), empty(2, n), empty(2, m)


map_by_a_loop("pairwise")


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2, (N, M), by differences, in float64."""
    return torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist").square()


def nearest_reference(x: Tensor, y: Tensor, k: int, *, exclude_self: bool = False) -> Nearest:
    """`nearest` in plain torch."""
    parts = []
    for first in range(0, max(len(x), 1), ROWS):
        squared = squared_distances(x[first : first + ROWS], y)
        if exclude_self:
            squared.diagonal(first).fill_(torch.inf)
        parts.append(torch.sort(squared, dim=1, stable=True))
    return Nearest(torch.cat([p.values[:, :k] for p in parts]), torch.cat([p.indices[:, :k] for p in parts]))


def balls_reference(x: Tensor, y: Tensor, radius_x: Tensor | None = None, radius_y: Tensor | None = None) -> Balls:
    """`balls` in plain torch."""
    in_x, over_x = (torch.zeros(len(x), dtype=torch.int64, device=x.device) for _ in range(2))
    over_y, in_y = (torch.zeros(len(y), dtype=torch.int64, device=x.device) for _ in range(2))
    for first in range(0, len(x), ROWS):
        rows = slice(first, first + ROWS)
        squared = squared_distances(x[rows], y)
        if radius_x is not None:
            inside = squared <= radius_x[rows, None]
            in_x[rows], over_y = inside.sum(1), over_y + inside.sum(0)
        if radius_y is not None:
            inside = squared <= radius_y
            over_x[rows], in_y = inside.sum(1), in_y + inside.sum(0)
    return Balls(in_x, over_y, in_y, over_x)
