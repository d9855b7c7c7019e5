"""The inception score of a classifier's answers."""

import numpy as np
import torch
from torch import Tensor

from . import checks, intervals
from .estimate import Estimate

_SUM_TOLERANCE = 1e-3  # of a row, for probabilities that were computed in float16


def inception_score(probabilities: Tensor | np.ndarray, *, level: float = 0.95) -> Estimate:
    """exp of the mean over samples of KL(p(y|x) || p(y)), from 1 to the number of classes.

    probabilities: (N, K), p(y|x_i) of any classifier; a row sums to 1. p(y) is their mean. Salimans et al. 2016,
    arXiv:1606.03498, over all samples at once, without their mean over ten parts, which changes the number.

    The logarithm is an entropy of a mean, so it is low by about b = sum_k Var p_k / (2 N p(y_k)), (K - 1) / (2 N) for a
    classifier that is sure; the interval is about the logarithm plus b. Its variance is that of KL_i / N, less what the
    noise of p(y) adds to it, plus the second order, sum_kl Cov(p_k, p_l)^2 / (2 N^2 p(y_k) p(y_l)).
    details: "bias" of the logarithm, -b; "extrapolated", to infinite N; "se" of the logarithm.
    Raises TypeError or ValueError for anything but a finite floating-point matrix of 2+ rows, values below 0, rows that
    do not sum to 1, a level outside (0, 1).
    """
    z = intervals.quantile(level)
    p = checks.matrix(probabilities, "probabilities", torch.float64).cpu()
    if (p < 0).any():
        raise ValueError(f"probabilities must hold values of at least 0; got {p.min().item():.4g}")
    wrong = (p.sum(1) - 1).abs() > _SUM_TOLERANCE
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(f"probabilities must hold rows that sum to 1; got {p[row].sum().item():.4g} in row {row}")
    p = p / p.sum(1, keepdim=True)
    n, classes = p.shape
    marginal = p.mean(0)
    divergence = torch.special.xlogy(p, p).sum(1) - torch.special.xlogy(p, marginal).sum(1)
    log_score = max(divergence.mean().item(), 0.0)  # below 0 only by rounding

    # In units of p(y)^(1/2), where the curvature of the entropy is the identity.
    scaled = (p - marginal)[:, marginal > 0] / marginal[marginal > 0].sqrt()
    covariance = scaled.T @ scaled / (n - 1)
    bias = -covariance.trace().item() / (2 * n)
    first, second = divergence.var().item() / n, covariance.square().sum().item() / (2 * n**2)
    se = max(first - second, second) ** 0.5  # the noise of p(y) has added 2 `second` to `first`
    limits = np.clip(np.exp(intervals.normal(log_score - bias, se, z)), 1.0, classes)
    details = {"bias": bias, "extrapolated": float(np.exp(log_score - bias)), "se": se}
    return Estimate(
        float(np.exp(log_score)), *limits.tolist(), "delta method on the logarithm", n, None, level, details
    )
