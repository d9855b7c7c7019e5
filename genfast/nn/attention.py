"""Attention of all tokens to all tokens."""

import math

import torch.nn.functional as F
from torch import Tensor

from ..ops.dispatch import composed


def split_heads(x: Tensor, heads: int) -> list[Tensor]:
    """Queries, keys and values out of one product.  (B, T, 3 heads d) -> three of (B, heads, T, d), views.

    Cut where they lie side by side, so that backward one copy puts their gradients together as the product wants them.
    """
    return [part.transpose(1, 2) for part in x.unflatten(2, (3, heads, -1)).unbind(2)]


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, the heads side by side.  (B, heads, T, d) each -> (B, T, heads d).

    (Vaswani et al. 2017, arXiv:1706.03762.) By torch's fused kernels, which know neither torch.func nor forward mode:
    there, and in float64, it is written out. They have no second derivatives either, and say so; inside
    `torch.nn.attention.sdpa_kernel(SDPBackend.MATH)` torch has those too.
    """
    if composed(query, key, value):
        weights = (query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])).softmax(-1)
        mixed = weights @ value
    else:
        mixed = F.scaled_dot_product_attention(query, key, value)
    return mixed.transpose(1, 2).flatten(2)
