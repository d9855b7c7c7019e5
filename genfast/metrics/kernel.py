"""The kernel distance: a maximum mean discrepancy, unbiased, with its variance."""

import math

import numpy as np
import torch
from torch import Tensor

from .. import ops
from ..common.checks import require_choice, require_integer, require_number
from ..common.keys import MAX_SEED
from ..common.orders import permutation
from . import checks, intervals
from .estimate import Estimate

_MEDIAN_ROWS = 500  # of each set, for the median distance
ROUNDING = 1e-13  # of a mean of the kernel, relative
KERNELS = ("polynomial", "rbf")


def kernel_distance(
    samples: Tensor | np.ndarray,
    real: Tensor | np.ndarray,
    *,
    kernel: str = "polynomial",
    gamma: float | None = None,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Squared maximum mean discrepancy of samples (N, D) and real (M, D), the unbiased estimate:

        sum_{i != j} k(x_i, x_j) / (N (N - 1)) + sum_{i != j} k(y_i, y_j) / (M (M - 1)) - 2 sum_ij k(x_i, y_j) / (N M)

    kernel: "polynomial", (gamma x.y + 1)^3 with gamma 1/D by default: the kernel inception distance (Binkowski et al.
    2018, arXiv:1801.01401) if the features are Inception's. "rbf", exp(-gamma |x - y|^2), gamma by default
    1 / (2 median |x - y|^2) over at most 500 rows of each set, drawn by `seed` (Gretton et al. 2012).
    Unlike the Frechet distance it has the same expectation for every N and M; it is negative half of the time if the
    two distributions are one, and the interval is left to go below 0 too.

    The variance is estimated with its terms of first and second order, from row sums of k and k^2 (Sutherland et al.
    2017, arXiv:1611.04488; Bounliphone et al. 2016, arXiv:1511.04581); no term of it is taken below 0. The first order
    grows with the distance itself, and the interval holds the distances that agree with the estimate by the variance
    that they would have: it reaches further up than down.
    details: "se"; "gamma"; "under_equality", 0, the expectation for two sets from one distribution.
    Features are taken in float32, all arithmetic is float64. From float64 ones "rbf" takes off a common origin before;
    "polynomial" depends on it, and refuses those so far away that float32 loses their spread.
    Raises TypeError or ValueError for anything but two finite floating-point matrices of equal width and 4+ rows, an
    unknown kernel, a gamma that is not positive, a level outside (0, 1), features too large for their kernel's squares.
    """
    kernel, seed = require_choice("kernel", kernel, KERNELS), require_integer("seed", seed, 0, MAX_SEED)
    sets, unit = {"samples": samples, "real": real}, 1.0
    if kernel == "rbf":
        (x, y), unit = checks.apart(4, **sets)
    else:
        x, y = checks.matrices(torch.float32, 4, **sets)
    z = intervals.quantile(level)
    if gamma is None:
        gamma = 1 / x.shape[1] if kernel == "polynomial" else _median_gamma(x, y, seed) / unit / unit
    gamma = require_number("gamma", gamma, above=0)
    n, m = len(x), len(y)
    options = {"kernel": kernel, "gamma": gamma * unit * unit}
    within_x, within_y = (ops.kernel_sums(rows, rows, exclude_self=True, **options) for rows in (x, y))
    across_x, across_y = ops.kernel_sums(x, y, **options), ops.kernel_sums(y, x, **options)
    mean_x, mean_y = within_x.first / (n - 1), within_y.first / (m - 1)
    value = (mean_x.mean() + mean_y.mean() - 2 * across_x.first.mean() / m).item()

    second_x, second_y, second_xy = _within(within_x), _within(within_y), _across(across_x, across_y)
    # The variances of the projections E k(x, x') - E k(x, y), less what the noise of these means adds to them.
    first_x = (mean_x - across_x.first / m).var().item() - second_x / (n - 1) - second_xy / m
    first_y = (mean_y - across_y.first / n).var().item() - second_y / (m - 1) - second_xy / n
    first = 4 * max(first_x, 0.0) / n + 4 * max(first_y, 0.0) / m
    second = 2 * second_x / (n * (n - 1)) + 2 * second_y / (m * (m - 1)) + 4 * second_xy / (n * m)
    se = (first + second) ** 0.5
    if max(se, abs(value)) < ROUNDING * float((mean_x.mean() + mean_y.mean()).abs()):
        value = 0.0  # of sets without any spread, a difference of equal numbers
    if not math.isfinite(value + se):
        largest = float(torch.cat([x, y]).abs().max())
        raise ValueError(f"samples and real must be smaller: the kernel's squares overflow float64; got {largest:.2g}")
    growth = first / max(value, se) if first else 0.0  # below one standard error, a ratio of noise to noise
    return Estimate(
        value, *intervals.growing(value, second, growth, z), "variance of the U-statistic", n, m, level,
        {"se": se, "gamma": gamma, "under_equality": 0.0},
    )  # fmt: skip


def _median_gamma(x: Tensor, y: Tensor, seed: int) -> float:
    parts = [z[permutation(len(z), seed, stream)[:_MEDIAN_ROWS]] for stream, z in enumerate((x, y))]
    pooled = torch.cat(parts).double()
    median = torch.pdist(pooled).square().median().item()
    if median == 0:
        raise ValueError("gamma must be a number, for more than half of the distances are 0; got None")
    return 1 / (2 * median)


def _within(sums: ops.KernelSums) -> float:
    """Variance of k(x, x') less its projections: E k^2 - 2 E_x (E_x' k)^2 + (E k)^2, over distinct indices."""
    n, first, second = len(sums.first), sums.first, sums.second.sum()
    of_squares = second / (n * (n - 1))
    of_rows = (first.square().sum() - second) / (n * (n - 1) * (n - 2))
    whole = (first.sum().square() - 4 * first.square().sum() + 2 * second) / (n * (n - 1) * (n - 2) * (n - 3))
    return max((of_squares - 2 * of_rows + whole).item(), 0.0)


def _across(rows: ops.KernelSums, columns: ops.KernelSums) -> float:
    """Variance of k(x, y) less its projections: E k^2 - E_x (E_y k)^2 - E_y (E_x k)^2 + (E k)^2, distinct indices."""
    n, m, second = len(rows.first), len(columns.first), rows.second.sum()
    by_rows, by_columns = rows.first.square().sum(), columns.first.square().sum()
    of_rows = (by_rows - second) / (n * m * (m - 1))
    of_columns = (by_columns - second) / (n * m * (n - 1))
    whole = (rows.first.sum().square() - by_rows - by_columns + second) / (n * (n - 1) * m * (m - 1))
    return max((second / (n * m) - of_rows - of_columns + whole).item(), 0.0)
