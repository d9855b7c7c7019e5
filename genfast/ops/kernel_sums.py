"""Sums of a kernel over all pairs of two sets. No N x M matrix is ever held."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..common.checks import require_bool, require_choice, require_number
from .dispatch import map_by_a_loop, register_fake
from .pairwise import ROWS, check_sets, squared_distances


class KernelSums(NamedTuple):
    """sum_j k(x_i, y_j) and sum_j k(x_i, y_j)^2, each (N,) float64."""

    first: Tensor
    second: Tensor


def kernel_sums(
    x: Tensor, y: Tensor, *, kernel: str = "polynomial", gamma: float, offset: float = 1.0, exclude_self: bool = False
) -> KernelSums:
    """Sums over y of a kernel and of its square.

    kernel: "polynomial", (gamma x.y + offset)^3, or "rbf", exp(-gamma |x - y|^2).  x: (N, D), y: (M, D) float32.
    exclude_self: x and y are one set, and the pairs of a point with itself are left out.  All arithmetic is float64, in
    an order that depends on D and M only: the same bits from every device, instruction set and number of threads.  Not
    differentiable.  Raises ValueError naming the argument.
    """
    check_sets("kernel_sums", x, y)
    kernel = require_choice("kernel", kernel, ("polynomial", "rbf"))
    gamma = require_number("gamma", gamma, least=0 if kernel == "rbf" else None)
    offset, exclude_self = require_number("offset", offset), require_bool("exclude_self", exclude_self)
    if exclude_self and len(x) != len(y):
        raise ValueError(f"kernel_sums: x and y must be one set with exclude_self; got {len(x)} and {len(y)} points")
    x, y = x.detach().contiguous(), y.detach().contiguous()
    return KernelSums(*torch.ops.genfast.kernel_sums(x, y, kernel == "rbf", gamma, offset, exclude_self))


@register_fake("kernel_sums")
def _(x, y, rbf, gamma, offset, exclude_self):
    return tuple(x.new_empty(len(x), dtype=torch.float64) for _ in range(2))


map_by_a_loop("kernel_sums")


def kernel_sums_reference(
    x: Tensor, y: Tensor, *, kernel: str = "polynomial", gamma: float, offset: float = 1.0, exclude_self: bool = False
) -> KernelSums:
    """`kernel_sums` in plain torch, in float64."""
    parts = []
    for first in range(0, max(len(x), 1), ROWS):
        rows = x[first : first + ROWS].double()
        if kernel == "polynomial":
            values = (gamma * rows @ y.double().T + offset) ** 3
        else:
            values = torch.exp(-gamma * squared_distances(rows, y))
        if exclude_self:
            values.diagonal(first).zero_()
        parts.append((values.sum(1), values.square().sum(1)))
    return KernelSums(torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]))
