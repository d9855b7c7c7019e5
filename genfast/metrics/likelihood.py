"""Mean log-likelihood of data under a model, in nats and in bits per dimension."""

import math

import numpy as np
import torch
from torch import Tensor

from ..common.checks import require_floating, require_integer, require_number
from . import intervals
from .estimate import Estimate


def likelihood(
    nats: Tensor | np.ndarray,
    dims: int,
    *,
    se: Tensor | np.ndarray | None = None,
    bits_offset: float = 0.0,
    level: float = 0.95,
) -> dict[str, Estimate]:
    """Mean over samples of log p(x_i), "nats", and -nats / (dims ln 2) + bits_offset, "bits_per_dim".

    nats: (N,) log-likelihoods, or bounds or estimates of them.  dims: numbers a sample.  bits_offset: what the units of
    the data add, bits a dimension: 7 where bins of 1/128 tile [-1, 1], 0 for densities in the data's own unit.
    se: (N,), standard errors of the single estimates, if each has noise of its own (probes, importance samples): that
    noise is part of the spread of `nats` already and is not added again; details["se_of_estimates"] says what of the
    standard error of the mean is due to it, details["se"].

    The intervals are those of the central limit theorem, over fresh data. A log-likelihood of -infinity (data outside
    the model's support) makes the mean -infinity, with a warning that counts them and names the first.
    Raises TypeError or ValueError for anything but (N,) floating-point numbers, N at least 2, for NaN or +infinity.
    """
    nats = _vector(nats, "nats")
    dims = require_integer("dims", dims, 1)
    bits_offset = require_number("bits_offset", bits_offset)
    n, z, warnings, details = len(nats), intervals.quantile(level), (), {}
    outside = torch.isneginf(nats)
    if outside.any():
        first = int(outside.nonzero()[0])
        warnings = (f"{int(outside.sum())} of {n} log-likelihoods are -infinity, the first is of sample {first}",)
        mean, low, high = -math.inf, -math.inf, -math.inf
    else:
        mean, details["se"] = nats.mean().item(), nats.std().item() / n**0.5
        low, high = intervals.normal(mean, details["se"], z)
    if se is not None:
        se = _vector(se, "se")
        if len(se) != n:
            raise ValueError(f"se must have shape ({n},), one per sample; got ({len(se)},)")
        if (se < 0).any():
            raise ValueError(f"se must hold values of at least 0; got {se.min().item():.4g}")
        details["se_of_estimates"] = se.square().sum().item() ** 0.5 / n
    per_bit = dims * math.log(2)
    return {
        "nats": Estimate(mean, low, high, "central limit", n, None, level, details, warnings),
        "bits_per_dim": Estimate(
            bits_offset - mean / per_bit, bits_offset - high / per_bit, bits_offset - low / per_bit, "central limit", n,
            None, level, {name: value / per_bit for name, value in details.items()}, warnings,
        ),
    }  # fmt: skip


def _vector(values: Tensor | np.ndarray, name: str) -> Tensor:
    """float64, on the CPU, without NaN or +infinity."""
    values = require_floating(name, values).detach()
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"{name} must have shape (N,) with N of at least 2; got {tuple(values.shape)}")
    values = values.double().cpu()
    if (bad := values.isnan() | torch.isposinf(values)).any():
        first = int(bad.nonzero()[0])
        raise ValueError(
            f"{name} must not hold NaN or +infinity; got {int(bad.sum())} of {len(values)}, the first of sample {first}"
        )
    return values
