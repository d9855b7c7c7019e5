"""What every log-likelihood of the library answers, and that one may be missing."""

from typing import NamedTuple

from torch import Tensor


class NotDifferentiable(ValueError):
    """The network has no gradient to its input, by which a likelihood would be found."""


class LogLikelihood(NamedTuple):
    """nats: (N,) float64, log p_0(x_i).  se: (N,), the standard error that the probes leave; 0 with exact divergence,
    NaN with a single probe."""

    nats: Tensor
    se: Tensor
