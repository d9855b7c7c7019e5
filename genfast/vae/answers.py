"""What a VAE and its networks answer: numbers that are some, in the dtype that is wanted."""

import torch
from torch import Tensor, nn

from ..common.indices import require_finite
from ..common.precision import weights_dtype


def finite(x: Tensor) -> Tensor:
    """x, (N, *), or a FloatingPointError that names the first rows that are not finite."""
    require_finite(x, torch.arange(len(x), device="cpu"))
    return x


def defined(name: str, nats: Tensor, first: int = 0) -> Tensor:
    """nats, (N,) or (K, N), or a FloatingPointError that names the first samples with a NaN, counted from `first`."""
    bad = nats.isnan() if nats.ndim == 1 else nats.isnan().any(0)
    if bool(bad.any()):
        raise FloatingPointError(f"{name} of samples {(first + bad.nonzero().flatten()).tolist()[:5]} is NaN")
    return nats


def in_dtype_of(net: nn.Module, t: Tensor) -> Tensor:
    """t in the dtype of the network's weights, if it has any."""
    return t.to(weights_dtype(net) or t.dtype)
