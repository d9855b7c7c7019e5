"""Does a model copy its training data? Distances to it, held against those of data that it has not seen."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .. import ops
from ..common.checks import require_integer, require_number
from . import checks, intervals
from .estimate import Estimate


@dataclass(frozen=True)
class Memorization:
    """share: of suspicious samples.  ratio: (N,) float64, how near a sample is to its nearest training point, in units
    of the distances there.  nearest: (N,) int64, which one that is.  distance: (N,) to it.  order: (N,) int64, samples
    from the most suspicious on.  threshold: ratios below it are suspicious.  held_out_ratio: (H,)."""

    share: Estimate
    ratio: Tensor
    nearest: Tensor
    distance: Tensor
    order: Tensor
    threshold: float
    held_out_ratio: Tensor


def memorization(
    samples: Tensor | np.ndarray,
    train: Tensor | np.ndarray,
    held_out: Tensor | np.ndarray,
    *,
    k: int = 5,
    quantile: float = 0.01,
    level: float = 0.95,
) -> Memorization:
    """Share of samples (N, D) that lie closer to training data (T, D) than all but the closest held-out data (H, D).

        r(x) = |x - t(x)| / s(t(x)),   t(x) the nearest training point, s(t) its mean distance to its k nearest ones

    A sample is suspicious if r is below the j-th smallest r of the held-out data, j = quantile (H + 1) rounded down, at
    least 1. Samples from the distribution of the held-out data are so with probability j / (H + 1) exactly,
    details["expected"]; held-out data must be fresh draws of what the training data is from, without copies.

    details: "suspicious", how many; "copies", samples at distance 0; "expected"; "z_score", Mann-Whitney's z of the
    samples' r among the held-out ones, below 0 if samples are the nearer (Meehan et al. 2020, arXiv:2004.05675), and
    N(0, 1) for samples that are as good as held-out data.
    The interval is Wilson's, to whose variance that of the threshold is added, expected (1 - expected) / H.
    Features are compared in float32, float64 ones less a common origin. Raises TypeError or ValueError for anything but
    three finite floating-point matrices of equal width, of 2+ rows and more than k in `train`, or a quantile outside
    (0, 1).
    """
    k = require_integer("k", k, 1)
    (x, t, h), unit = checks.apart(samples=samples, train=train, held_out=held_out)
    if len(t) <= k:
        raise ValueError(f"train must have more than k = {k} rows; got {len(t)}")
    quantile = require_number("quantile", quantile, above=0, below=1)
    n, z = len(x), intervals.quantile(level)
    scale = ops.nearest(t, t, k, exclude_self=True).distance.sqrt().mean(1)
    ratio, nearest, distance = _ratio(x, t, scale)
    held_out_ratio, *_ = _ratio(h, t, scale)

    rank = max(int(quantile * (len(h) + 1)), 1)
    threshold = held_out_ratio.sort().values[rank - 1].item()
    expected = rank / (len(h) + 1)
    suspicious = int((ratio < threshold).sum())
    value = suspicious / n
    of_threshold = expected * (1 - expected) / len(h)
    details = {
        "suspicious": float(suspicious),
        "copies": float((distance == 0).sum()),
        "expected": expected,
        "z_score": _mann_whitney(ratio, held_out_ratio),
    }
    warnings = []
    if repeated := int((scale == 0).sum()):
        warnings.append(f"{repeated} of {len(t)} training points have {k} or more exact copies: no scale to go by")
    if copied := int((held_out_ratio == 0).sum()):
        warnings.append(f"{copied} of {len(h)} held-out points are training points too: the threshold is too low")
    if quantile * (len(h) + 1) < 1:
        warnings.append(f"{len(h)} held-out points are too few for the quantile {quantile:g}: {expected:.2g} is used")
    share = Estimate(
        value, *intervals.wilson(value, n, z, of_threshold), "Wilson, with the threshold's variance", n, len(h),
        level, details, tuple(warnings),
    )  # fmt: skip
    return Memorization(share, ratio, nearest, unit * distance, ratio.argsort(stable=True), threshold, held_out_ratio)


def _ratio(x: Tensor, train: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """r, the nearest training points and the distances to them, (N,) each. A copy has r = 0, whatever the scale."""
    found = ops.nearest(x, train, 1)
    nearest, distance = found.index[:, 0], found.distance[:, 0].sqrt()
    return torch.where(distance == 0, 0.0, distance / scale[nearest]), nearest, distance


def _mann_whitney(x: Tensor, y: Tensor) -> float:
    """z of the rank sum of x among x and y, ties at their mean rank; 0 if all are equal."""
    n, m, total = len(x), len(y), len(x) + len(y)
    _, which, count = torch.cat([x, y]).unique(return_inverse=True, return_counts=True)
    count = count.double()
    rank = (count.cumsum(0) - (count - 1) / 2)[which]
    ties = (count**3 - count).sum().item()
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    excess = rank[:n].sum().item() - n * (total + 1) / 2
    return excess / math.sqrt(variance) if variance > 0 else 0.0
