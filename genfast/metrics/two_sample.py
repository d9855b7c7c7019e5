"""Can a classifier tell the samples from the real ones?"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import ops
from ..common.checks import require_integer, require_tensor
from ..common.keys import MAX_SEED
from ..common.orders import permutation
from . import checks, intervals
from .estimate import Estimate


class NearestNeighbors:
    """Majority of the k nearest training points; ties, for an even k, say 0."""

    def __init__(self, k: int = 5):
        self.k = k

    def fit(self, x: Tensor, label: Tensor) -> "NearestNeighbors":
        self.x, self.label = x, label
        return self

    def predict(self, x: Tensor) -> Tensor:
        """(N,) of 0 and 1."""
        return (2 * self.label[ops.nearest(x, self.x, self.k).index].sum(1) > self.k).long()


def two_sample_test(
    samples: Tensor | np.ndarray,
    real: Tensor | np.ndarray,
    *,
    k: int = 5,
    classifier: Any = None,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Accuracy of a classifier that tells samples (N, D) from real ones (M, D), on halves that it was not fitted to:
    0.5 if it cannot, 1 if it always can. Lopez-Paz & Oquab 2017, arXiv:1610.06545.

    classifier: the majority of the k nearest neighbors by default, or anything with fit(x, label) and predict(x) on
    arrays x (N, D) float32 and label (N,), 1 for a sample and 0 for a real one.
    Both sets are cut to the smaller size and halved, by random draws of `seed`; the interval is Wilson's.
    details: "p_value", the chance of at least this accuracy were the two distributions one,
    P(Binomial(n, 1/2) >= right), n = "held_out" points; of a classifier that answers 1 with probability q, the number
    of right answers then has variance n q (1 - q), not n / 4, so the p-value is too large rather than too small.
    "under_equality": 0.5, the expectation for two sets from one distribution.
    Features are compared in float32, float64 ones less a common origin; a classifier of one's own is given them as they
    are, unless float32 cannot hold their spread. Raises TypeError or ValueError for that, for anything but two finite
    floating-point matrices of equal width and 2+ rows, or for more neighbors than points.
    """
    k, seed = require_integer("k", k, 1), require_integer("seed", seed, 0, MAX_SEED)
    z = intervals.quantile(level)
    if classifier is not None:
        for method in ("fit", "predict"):
            if isinstance(classifier, type) or not callable(getattr(classifier, method, None)):
                raise TypeError(f"classifier must have fit(x, label) and predict(x); got {type(classifier).__name__}")
    sets = {"samples": samples, "real": real}
    x, y = checks.apart(**sets)[0] if classifier is None else checks.matrices(torch.float32, **sets)
    n, m = len(x), len(y)
    size = min(n, m)
    fit, held_out = [], []
    for stream, rows in enumerate((x, y)):
        chosen = rows[permutation(len(rows), seed, stream)[:size]]
        fit.append(chosen[: size // 2])
        held_out.append(chosen[size // 2 :])
    if classifier is None and k > 2 * (size // 2):
        raise ValueError(f"k must be at most {2 * (size // 2)}, the points to fit to; got {k}")
    label, truth = (
        torch.arange(2, device="cpu").flip(0).repeat_interleave(len(half[0])).to(x.device) for half in (fit, held_out)
    )
    if classifier is None:
        answer = NearestNeighbors(k).fit(torch.cat(fit), label).predict(torch.cat(held_out))
    else:
        classifier.fit(torch.cat(fit).cpu().numpy(), label.cpu().numpy())
        answer = np.asarray(classifier.predict(torch.cat(held_out).cpu().numpy()))
        answer = require_tensor("classifier", answer).to(truth.device)
        if answer.shape != truth.shape:
            raise ValueError(f"classifier must give {len(truth)} answers; got shape {tuple(answer.shape)}")
    right, trials = int((answer == truth).sum()), len(truth)
    warnings = (f"{n} samples and {m} real ones: {size} of each were used",) if n != m else ()
    return Estimate(
        right / trials, *intervals.wilson(right / trials, trials, z), "Wilson", n, m, level,
        {"p_value": _at_least(right, trials), "held_out": float(trials), "under_equality": 0.5}, warnings,
    )  # fmt: skip


def _at_least(right: int, trials: int) -> float:
    """P(Binomial(trials, 1/2) >= right)."""
    count = torch.arange(right, trials + 1, dtype=torch.float64, device="cpu")
    log_terms = math.lgamma(trials + 1) - torch.lgamma(count + 1) - torch.lgamma(trials - count + 1)
    return min(torch.exp(log_terms - trials * math.log(2)).sum().item(), 1.0)
