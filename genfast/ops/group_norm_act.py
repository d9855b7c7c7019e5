"""Group normalisation, its affine maps and the activation after it, in one pass."""

import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS = {
    "none": lambda u: u,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda u: F.gelu(u, approximate="tanh"),
}


def group_norm_act(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    *,
    act: str = "silu",
    eps: float = 1e-5,
) -> Tensor:
    r"""y = act((1 + scale) (weight x_hat + bias) + shift),  x_hat = (x - mean) / sqrt(var + eps) over each group.

    x: (N, C, *), contiguous or channels-last; weight, bias: (C,); scale, shift: (N, C), rows may have gaps.
    """
    return group_norm_act_reference(x, groups, weight, bias, scale, shift, act=act, eps=eps)


def group_norm_act_reference(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    *,
    act: str = "silu",
    eps: float = 1e-5,
) -> Tensor:
    """`group_norm_act` in plain torch."""
    u = F.group_norm(x, groups, weight, bias, eps)
    spread = x.shape[:2] + (1,) * (x.ndim - 2)
    if scale is not None:
        u = u * (1 + scale.reshape(spread))
    if shift is not None:
        u = u + shift.reshape(spread)
    return ACTIVATIONS[act](u.to(x.dtype))
