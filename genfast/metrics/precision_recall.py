"""Precision, recall, density and coverage: how many samples lie among the real ones, and how many real ones are met."""

import math

import numpy as np
import torch
from torch import Tensor

from .. import ops
from ..common.checks import require_integer
from ..common.keys import MAX_SEED
from ..common.orders import permutation
from . import checks, intervals
from .estimate import Estimate

_ROWS = 500  # of a group, at least
_DEGREES = 20  # of freedom of the variance by count; over repeats it spreads as with half as many
NAMES = ("precision", "recall", "density", "coverage")


def precision_recall(
    samples: Tensor | np.ndarray, real: Tensor | np.ndarray, *, k: int = 5, seed: int = 0, level: float = 0.95
) -> dict[str, Estimate]:
    """Improved precision and recall, density and coverage of samples (N, D) against real (M, D). A ball around a point
    reaches to the k-th nearest other point of its set, that one included:

        precision   share of samples in a ball of a real one      density    balls of real ones that hold a sample / k
        recall      share of real ones in a ball of a sample      coverage   share of balls of real ones with a sample

    Kynkaanniemi et al. 2019, arXiv:1904.06991; Naeem et al. 2020, arXiv:2002.09797. All depend on N, M and k: of two
    sets from one distribution, precision and recall are not 1, and have no closed form; details["under_equality"] says
    what to expect of the other two, density 1 and coverage 1 - prod_{i=1..k} (M - i) / (M + N - i).

    The intervals are for the expectation over fresh samples and fresh real ones. Balls that share points are not
    independent, so the variance is taken from disjoint random groups of both sets, drawn by `seed`: that among groups,
    divided by their number, and z is Student's. Shares have Wilson's interval at as many trials as have this variance.
    Sets too small to be halved leave everything possible, with a warning.

    Features are compared in float32, float64 ones less a common origin. Raises TypeError or ValueError for anything but
    two finite floating-point matrices of equal width and more than k rows, a k below 1, a level outside (0, 1).
    """
    k, seed = require_integer("k", k, 1), require_integer("seed", seed, 0, MAX_SEED)
    z = intervals.quantile(level, _DEGREES / 2)
    (x, y), _ = checks.apart(k + 1, samples=samples, real=real)
    n, m = len(x), len(y)
    values, neighbors = _four(x, y, k)
    warnings = [
        f"{copies} of {len(distance)} {name} have an exact copy in their set, which makes their balls too small"
        for name, distance in zip(("samples", "real ones"), neighbors)
        if (copies := int((distance[:, 0] == 0).sum()))
    ]
    halves = min(n, m) >= 2 * (k + 1)
    if not halves:
        warnings.append(f"{min(n, m)} rows are too few for an interval with k = {k}, which takes {2 * (k + 1)}")
    variance = _variance(x, y, k, seed).tolist() if halves else [math.nan] * 4

    ranks = np.arange(1, k + 1)
    equal = {"density": 1.0, "coverage": 1 - math.prod(((m - ranks) / (m + n - ranks)).tolist())}
    estimates = {}
    for name, value, var, count in zip(NAMES, values.tolist(), variance, (n, m, n, m)):
        if not halves:
            low, high = 0.0, m / k if name == "density" else 1.0
        elif name == "density":
            low, high = intervals.normal(value, var**0.5, z)
            low = max(low, 0.0)
        else:
            low, high = intervals.wilson_of_variance(value, var, count, z)
        details = {"k": float(k), "se": var**0.5} | ({"under_equality": equal[name]} if name in equal else {})
        estimates[name] = Estimate(value, low, high, "disjoint groups", n, m, level, details, tuple(warnings))
    return estimates


def _four(x: Tensor, y: Tensor, k: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The four numbers, (4,) float64, and the squared distances to the k nearest within x, (N, k), and within y."""
    within_x, within_y = (ops.nearest(rows, rows, k, exclude_self=True).distance for rows in (x, y))
    found = ops.balls(x, y, within_x[:, -1], within_y[:, -1])
    shares = [counts.bool().double().mean() for counts in (found.over_x, found.over_y, found.in_y)]
    return torch.stack([*shares[:2], found.over_x.double().mean() / k, shares[2]]), (within_x, within_y)


def _variance(x: Tensor, y: Tensor, k: int, seed: int) -> Tensor:
    """Of the four numbers, (4,)."""
    groups = min(max(min(len(x), len(y)) // _ROWS, 2), _DEGREES + 1)
    found = []
    for partition in range(-(-_DEGREES // (groups - 1))):
        parts = (
            np.array_split(permutation(len(rows), seed, 2 * partition + side), groups)
            for side, rows in enumerate((x, y))
        )
        found.append(torch.stack([_four(x[a], y[b], k)[0] for a, b in zip(*parts)]).var(0))
    return torch.stack(found).mean(0) / groups
