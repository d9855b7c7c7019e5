"""The Frechet distance between two sets of features, each summarised by a Gaussian."""

import numpy as np
import torch


def frechet(x, y):
    """Squared Frechet (2-Wasserstein) distance between the Gaussians fitted to `x: (N, D)` and `y: (M, D)`; a float.

        |mean_x - mean_y|^2 + tr S_x + tr S_y - 2 tr (S_x S_y)^(1/2)

    with unbiased covariances (Dowson & Landau 1982; as a metric, Heusel et al. 2017, arXiv:1706.08500), in the square
    of the features' unit. Not comparable between feature extractors, nor between different N and M: for two sets of N
    from N(0, I_D) the expectation is about 2 D / N + D (D + 1) / (2 N), not 0.
    Raises TypeError or ValueError for anything but two finite floating-point matrices of equal width and 2+ rows.
    """
    x, y = _features(x, "x"), _features(y, "y")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"y: expected {x.shape[1]} features per sample, as x has, got {y.shape[1]}")
    if torch.equal(x, y):
        return 0.0  # the difference of traces below would leave a rounding error of theirs
    offset = x.mean(0) - y.mean(0)
    root_x, root_y = _root(x), _root(y)
    # With S = R^T R the trace of (S_x S_y)^(1/2) is the sum of the singular values of R_x R_y^T. No square root of a
    # product of covariances is taken, which is what loses half of the digits when they are singular.
    cross = torch.linalg.svdvals(root_x @ root_y.T).sum()
    distance = offset.square().sum() + root_x.square().sum() + root_y.square().sum() - 2 * cross
    return max(distance.item(), 0.0)  # below 0 only by rounding


def _root(x):
    """R with R^T R = the covariance of x: (N, D): the centred samples or, if they are more than D, their QR factor."""
    centred = (x - x.mean(0)) / (len(x) - 1) ** 0.5
    return torch.linalg.qr(centred, mode="r").R if len(x) > x.shape[1] else centred


def _features(x, name):
    if not isinstance(x, torch.Tensor | np.ndarray):
        raise TypeError(f"{name}: expected a tensor or an array, got {type(x).__name__}")
    x = torch.as_tensor(x).detach()
    if not x.is_floating_point():
        raise TypeError(f"{name}: expected floating-point features, got {x.dtype}")
    if x.ndim != 2 or x.shape[0] < 2 or x.shape[1] < 1:
        raise ValueError(f"{name}: expected shape (N, D) with N of at least 2, got {tuple(x.shape)}")
    if not torch.isfinite(x).all():
        raise ValueError(f"{name}: expected finite features, got NaN or infinity")
    return x.double().cpu()
