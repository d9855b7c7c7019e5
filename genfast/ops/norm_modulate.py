"""Layer and root-mean-square normalisation of tokens, gated residuals before and modulation after, in one pass."""

import torch.nn.functional as F
from torch import Tensor


def _spread(m: Tensor, x: Tensor) -> Tensor:
    """(B, D) to (B, 1, ..., 1, D), to go with x: (B, *, D)."""
    return m.reshape(len(x), *[1] * (x.ndim - 2), x.shape[-1])


def layer_norm_modulate(
    x: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    *,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """y = (1 + scale) (weight x_hat + bias) + shift,  x_hat = (x - mean) / sqrt(var + eps) over the last dimension.

    x: (B, *, D); scale, shift: (B, D), rows may have gaps; weight, bias: (D,).
    """
    return norm_modulate_reference(x, scale, shift, weight, bias, eps)


def rms_norm_modulate(
    x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None, *, weight: Tensor | None = None,
    eps: float = 1e-6,
) -> Tensor:  # fmt: skip
    """The same with x_hat = x / sqrt(mean x^2 + eps)."""
    return norm_modulate_reference(x, scale, shift, weight, None, eps, rms=True)


def gate_residual_norm_modulate(
    residual: Tensor,
    gate: Tensor,
    y: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    *,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-6,
    rms: bool = False,
) -> tuple[Tensor, Tensor]:
    """(r, norm_modulate(r)) with r = residual + gate y.  residual, y: (B, *, D); gate: (B, D)."""
    r = residual + _spread(gate, residual) * y
    return r, norm_modulate_reference(r, scale, shift, weight, bias, eps, rms)


def norm_modulate_reference(x, scale=None, shift=None, weight=None, bias=None, eps=1e-6, rms=False):
    """Layer or RMS normalisation and modulation in plain torch."""
    if rms:
        h = F.rms_norm(x, x.shape[-1:], weight, eps)
    else:
        h = F.layer_norm(x, x.shape[-1:], weight, bias, eps)
    if scale is not None:
        h = h * (1 + _spread(scale, x))
    return h if shift is None else h + _spread(shift, x)
