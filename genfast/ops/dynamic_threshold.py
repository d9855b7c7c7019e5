"""Dynamic thresholding of the denoised estimate, by an exact quantile of each sample."""

import math

import torch
from torch import Tensor

from ..common.checks import require_number
from .dispatch import composed, dense, per_row, register_fake, require_tensors, wants_grad, without_autograd


def dynamic_threshold(D: Tensor, quantile: float, bound: float = 1.0, limit: float | None = None) -> Tensor:
    r"""D' = clamp(D, -s, s) bound / s, with s the quantile of |D| over each sample, bound <= s <= limit.

    Saharia et al. 2022, arXiv:2205.11487, section 2.3.  D: (B, *) float32, of any strides, at most 2^31
    elements a sample.  quantile: in [0, 1], with linear interpolation, as torch.quantile has it (which takes 2^24
    elements at most, and rounds the place of the quantile to float32; here it is float64).  bound: that of the data,
    positive.  limit: None for none.  Selected by the bits, not sorted.  A NaN counts as the largest and stays one.
    Float64 D, and the gradient in D, is computed by plain torch, which sorts.  Raises ValueError or RuntimeError naming
    the argument.
    """
    if (out := _quick(D, quantile, bound, math.inf if limit is None else limit)) is not NotImplemented:
        return out
    require_tensors("dynamic_threshold", D=D)
    quantile = require_number("quantile", quantile, least=0, most=1)
    bound = require_number("bound", bound, above=0)
    if limit is not None and not (isinstance(limit, float) and limit == math.inf):
        limit = require_number("limit", limit, least=bound)
    if composed(D) or wants_grad(D):
        return dynamic_threshold_reference(D, quantile, bound, limit)
    return _call(dense(D), quantile, bound, math.inf if limit is None else limit)


def dynamic_threshold_reference(D: Tensor, quantile: float, bound: float = 1.0, limit: float | None = None) -> Tensor:
    """`dynamic_threshold` in plain torch."""
    if D.numel() == 0:
        return D.clone()
    ranked = D.abs().flatten(1).sort(1).values.double()
    place = quantile * (ranked.shape[1] - 1)
    below = math.floor(place)
    above = min(below + 1, ranked.shape[1] - 1)
    s = torch.lerp(ranked[:, below], ranked[:, above], place - below).to(D.dtype).clamp(bound, limit)
    s = per_row(s, D)
    return torch.minimum(torch.maximum(D, -s), s) * (bound / s)


_quick, _call = without_autograd("dynamic_threshold")


@register_fake("dynamic_threshold")
def _(D, quantile, bound, limit):
    return torch.empty_like(D)
