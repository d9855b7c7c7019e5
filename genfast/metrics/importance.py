"""Importance-weighted bounds on a likelihood, from a stream of log weights."""

import math

import numpy as np
import torch
from torch import Tensor

from ..common.checks import require_floating


class ImportanceWeights:
    """log w_ki = log p(x_i, z_k) - log q(z_k | x_i), z_k from q(. | x_i), summed up as they come, in float64.

    k: how many weights every sample has seen.
    elbo: (N,), mean log w, a lower bound on log p(x_i).  elbo_se: (N,), its standard error.
    iwae: (N,), log mean w, a tighter lower bound, which reaches log p(x_i) as k grows (Burda et al. 2016,
    arXiv:1509.00519); its expectation is low by about se^2 / 2.  se: (N,), its standard error, by the delta method
    (Var w / k)^(1/2) / mean w.
    effective: (N,), (sum w)^2 / sum w^2, out of k; near 1 a single weight is all that counts, and neither `iwae` nor
    its standard error can be relied upon.
    Standard errors are NaN of a single weight and where a bound is -infinity, `effective` where all weights are 0. All
    are 0-dimensional and say nothing before the first weights have come.
    """

    def __init__(self):
        self.k = 0
        self.elbo = torch.zeros((), dtype=torch.float64, device="cpu")
        self._scatter = self.elbo  # sum of (log w - elbo)^2
        self._log_sum = self._log_sum_square = self.elbo - math.inf  # of w, of w^2

    def update(self, log_weights: Tensor | np.ndarray) -> "ImportanceWeights":
        """Take in log w: (K, N), a chunk of weights for every sample; -infinity is a weight of 0. Answers with itself.

        Raises TypeError or ValueError for anything but floating-point numbers of that shape, NaN or +infinity."""
        log_w = require_floating("log_weights", log_weights).detach()
        if log_w.ndim != 2 or 0 in log_w.shape or (self.k and log_w.shape[1] != len(self.elbo)):
            samples = len(self.elbo) if self.k else "N"
            raise ValueError(f"log_weights must have shape (K, {samples}); got {tuple(log_w.shape)}")
        log_w = log_w.double().cpu()
        if (bad := (log_w.isnan() | torch.isposinf(log_w)).any(0)).any():
            count, first = int(bad.sum()), int(bad.nonzero()[0])
            raise ValueError(f"log_weights must not hold NaN or +infinity; got {count} such samples, first {first}")
        mean = log_w.mean(0)
        scatter = (log_w - mean).square().sum(0)
        return self._add(len(log_w), mean, scatter, log_w.logsumexp(0), (2 * log_w).logsumexp(0))

    def merge(self, other: "ImportanceWeights") -> "ImportanceWeights":
        """Take in the weights that another one has seen of the same samples; answers with itself."""
        if not isinstance(other, ImportanceWeights):
            raise TypeError(f"other must be ImportanceWeights; got {type(other).__name__}")
        if self.k and other.k and len(self.elbo) != len(other.elbo):
            raise ValueError(f"other must have weights of {len(self.elbo)} samples; got {len(other.elbo)}")
        if other.k:
            self._add(other.k, other.elbo, other._scatter, other._log_sum, other._log_sum_square)
        return self

    def _add(
        self, k: int, mean: Tensor, scatter: Tensor, log_sum: Tensor, log_sum_square: Tensor
    ) -> "ImportanceWeights":
        # Mean and scatter as in `Moments`, but that the mean may be -infinity. What was 0-dimensional takes the shape
        # of what comes.
        total, delta = self.k + k, mean - self.elbo
        self.elbo = (self.k * self.elbo + k * mean) / total
        self._scatter = self._scatter + scatter + delta.square() * (self.k * k / total)
        self._log_sum = torch.logaddexp(self._log_sum, log_sum)
        self._log_sum_square = torch.logaddexp(self._log_sum_square, log_sum_square)
        self.k = total
        return self

    @property
    def elbo_se(self) -> Tensor:
        return self._per_degree(self._scatter / max(self.k, 1))

    @property
    def iwae(self) -> Tensor:
        return self._log_sum - math.log(max(self.k, 1))

    @property
    def se(self) -> Tensor:
        # Var w / (mean w)^2 = k sum w^2 / (sum w)^2 - 1, 0 at least but for rounding.
        return self._per_degree((self.k / self.effective - 1).clamp(min=0))

    @property
    def effective(self) -> Tensor:
        return (2 * self._log_sum - self._log_sum_square).exp()

    def _per_degree(self, variance: Tensor) -> Tensor:
        """(variance / (k - 1))^(1/2); NaN where that says nothing."""
        return (variance / (self.k - 1)).sqrt() if self.k > 1 else torch.full_like(variance, math.nan)
