"""The Frechet distance between two sets of features, each summarized by a Gaussian."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..common.checks import require_integer
from ..common.keys import MAX_SEED
from ..common.orders import permutation
from . import checks, intervals
from .estimate import Estimate

_SPLITS = 2  # into halves, for the extrapolation
_ROWS = 4096  # at a time, of what needs a copy


class Gaussian(NamedTuple):
    """mean (D,) and root (R, D) with root^T root = the covariance, float64."""

    mean: Tensor
    root: Tensor


def frechet_distance(x: Tensor | np.ndarray, y: Tensor | np.ndarray) -> float:
    """Squared Frechet (2-Wasserstein) distance between the Gaussians fitted to `x: (N, D)` and `y: (M, D)`; a float.

        |mean_x - mean_y|^2 + tr S_x + tr S_y - 2 tr (S_x S_y)^(1/2)

    with unbiased covariances (Dowson & Landau 1982; as a metric, Heusel et al. 2017, arXiv:1706.08500), in the square
    of the features' unit. Not comparable between feature extractors, nor between different N and M: for two sets of N
    from N(0, I_D) the expectation is about 2 D / N + D (D + 1) / (2 N), not 0. `frechet` has the interval.
    Raises TypeError or ValueError for anything but two finite floating-point matrices of equal width and 2+ rows.
    """
    return _of_samples(*(value.cpu() for value in checks.matrices(torch.float64, x=x, y=y)))


def frechet(samples: Tensor | np.ndarray, real: Tensor | np.ndarray, *, seed: int = 0, level: float = 0.95) -> Estimate:
    """`frechet_distance` of samples (N, D) and real (M, D), with what N and M do to it, and an interval.

    value: the distance F of the two sets as they are.
    details: "extrapolated", to infinite N and M: 2 F - F', F' the mean over random complementary halves of both sets
    (Richardson; compare Chong & Forsyth 2020, arXiv:1911.07023), which may be negative.  "se", its standard error.
    "bias", what F would be on average were both sets from one Gaussian: with l_i the eigenvalues of the mean covariance
    and c = 1/N + 1/M,

        c sum_i l_i + c/2 sum_ij l_i l_j (1 + delta_ij) / (l_i + l_j),      2 D/N + D (D + 1)/(2 N) for N(0, I), N = M.

    The interval is about the extrapolated distance, not about F, and does not go below 0. Where half a set has no more
    rows than D, min(N, M) <= 2 D, the extrapolation may be wrong by any amount: the interval then is [0, infinity) and
    "se" NaN, with a warning. The variance of first order is that of the influence function of F, which at a sample x
    is, but for a constant,

        2 (mu_1 - mu_2).(x - mu_1) + (x - mu_1)^T (I - T)(x - mu_1),
        T = S_2^(1/2) (S_2^(1/2) S_1 S_2^(1/2))^(-1/2) S_2^(1/2), the optimal map from the first to the second,

    less what the noise of T adds to it. That of second order is the variance of F for equal Gaussians,

        c^2 (2 sum_i l_i^2 + sum_ij (1 + delta_ij) (l_i l_j / (l_i + l_j))^2).

    The first grows with the distance, so the interval holds the distances that agree with the estimate by the variance
    that they would have.

    Raises as `frechet_distance`, but for 4+ rows; ValueError for a level outside (0, 1) or a seed outside [0, 2^63).
    """
    samples, real = (value.cpu() for value in checks.matrices(torch.float64, 4, samples=samples, real=real))
    n, m, d = len(samples), len(real), samples.shape[1]
    seed = require_integer("seed", seed, 0, MAX_SEED)
    z = intervals.quantile(level)
    warnings = []
    if min(n, m) <= d:
        warnings.append(
            f"{min(n, m)} rows of {d} features leave a covariance singular: the distance says more of their number "
            "than of what they are, the extrapolation cannot be relied upon, and there is no interval"
        )
    elif min(n, m) <= 2 * d:
        warnings.append(
            f"halves of {min(n, m)} rows of {d} features have singular covariances: extrapolated too far, no interval"
        )
    if same := torch.equal(samples, real):
        warnings.append("samples and real are the same rows: the interval takes them for independent")

    gaussians = _gaussian(samples), _gaussian(real)
    value = 0.0 if same else max(distance(*gaussians), 0.0)
    halved = [
        _of_samples(samples[a], real[b])
        for split in range(_SPLITS)
        for a, b in zip(*(np.array_split(permutation(k, seed, 2 * split + i), 2) for i, k in enumerate((n, m))))
    ]
    extrapolated = 2 * value - sum(halved) / len(halved)

    bias, second = _under_equality(*gaussians, 1 / n + 1 / m)
    if min(n, m) <= 2 * d:
        se, low, high = math.nan, 0.0, math.inf
    else:
        first = _first_order(samples, real, *gaussians)
        se, low, high = _interval(extrapolated, first, second, z)
    details = {"bias": bias, "extrapolated": extrapolated, "se": se}
    return Estimate(value, low, high, "delta method about the extrapolated", n, m, level, details, tuple(warnings))


def _first_order(samples: Tensor, real: Tensor, x: Gaussian, y: Gaussian) -> float:
    """The variance of the influence functions, over both sets."""
    sets = zip((samples, real), (x, y), (y, x), _transports(x, y))
    return sum(_influence(rows, own, other, transport).var().item() / len(rows) for rows, own, other, transport in sets)


def _interval(extrapolated: float, first: float, second: float, z: float) -> tuple[float, float, float]:
    """Standard error, low and high about the extrapolated distance, by its variances of first and second order."""
    # The noise of T and of mu_1 - mu_2 has added 2 `second` to `first`; the extrapolation weighs the pairs of samples
    # that make up the second order as F does but for the chance of sharing a half, which adds 1 / _SPLITS.
    first, second = max(first - 2 * second, 0.0), second * (1 + 1 / _SPLITS)
    se = (first + second) ** 0.5
    growth = first / max(extrapolated, se) if first else 0.0  # below one standard error, a ratio of noise to noise
    low, high = intervals.growing(extrapolated, second, growth, z)
    return se, max(low, 0.0), max(high, 0.0)


def distance(x: Gaussian, y: Gaussian) -> float:
    """The squared distance of two Gaussians; below 0 only by rounding."""
    # With S = R^T R the trace of (S_x S_y)^(1/2) is the sum of the singular values of R_x R_y^T. No square root of a
    # product of covariances is taken, which is what loses half of the digits when they are singular.
    cross = torch.linalg.svdvals(x.root @ y.root.T).sum()
    offset = (x.mean - y.mean).square().sum()
    return (offset + x.root.square().sum() + y.root.square().sum() - 2 * cross).item()


def _of_samples(x: Tensor, y: Tensor) -> float:
    if torch.equal(x, y):
        return 0.0  # the difference of traces would leave a rounding error of theirs
    return max(distance(_gaussian(x), _gaussian(y)), 0.0)


def _gaussian(x: Tensor) -> Gaussian:
    """The root is the centered samples (N, D) or, if they are more than D, their QR factor."""
    mean = x.mean(0)
    centered = (x - mean) / (len(x) - 1) ** 0.5
    return Gaussian(mean, torch.linalg.qr(centered, mode="r").R if len(x) > x.shape[1] else centered)


def _transports(x: Gaussian, y: Gaussian) -> tuple[Tensor, Tensor]:
    """Roots of the optimal maps from x to y and from y to x, (r, D) each: T = root^T root.

    With R_x R_y^T = U s V^T they are s^(-1/2) V^T R_y and s^(-1/2) U^T R_x, for (T S_x T = S_y); where s is zero but
    for rounding, nothing is moved.
    """
    u, s, v = torch.linalg.svd(x.root @ y.root.T, full_matrices=False)
    kept = s > len(s) * torch.finfo(s.dtype).eps * s[0]
    scale = s[kept].rsqrt()[:, None]
    return scale * (v[kept] @ y.root), scale * (u.T[kept] @ x.root)


def _influence(x: Tensor, own: Gaussian, other: Gaussian, transport: Tensor) -> Tensor:
    """What a sample adds to the distance, but for a constant: (N,)."""
    parts = []
    for rows in x.split(_ROWS):
        centered = rows - own.mean
        moved = (centered @ transport.T).square().sum(1)
        parts.append(2 * centered @ (own.mean - other.mean) + centered.square().sum(1) - moved)
    return torch.cat(parts)


def _under_equality(x: Gaussian, y: Gaussian, c: float) -> tuple[float, float]:
    """Mean and variance of the distance of two sets from one Gaussian, of the mean covariance; c = 1/N + 1/M."""
    # An eigenvalue of zero adds nothing to either sum, so where there are fewer rows than features those of the Gram
    # matrix, which are the others, will do.
    root = torch.cat([x.root, y.root])
    l = torch.linalg.eigvalsh((root @ root.T if len(root) < root.shape[1] else root.T @ root) / 2).clamp(min=0)
    harmonic = l[:, None] * l / (l[:, None] + l).clamp(min=torch.finfo(l.dtype).tiny)
    twice = 1 + torch.eye(len(l), dtype=l.dtype, device=l.device)
    mean = c * l.sum() + c / 2 * (twice * harmonic).sum()
    variance = c**2 * (2 * l.square().sum() + (twice * harmonic.square()).sum())
    return mean.item(), variance.item()
