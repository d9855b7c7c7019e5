"""What the networks are made of. Every layer is row-wise: a sample never sees the other samples of its batch."""

import torch
from torch import Tensor, nn

from .. import ops
from ..common.checks import require_count
from ..ops.dispatch import composed
from .winograd import Convolution

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}  # by the number of dimensions of an image
PLAIN = {*CONVOLUTIONS.values(), Convolution}

SIZE, LAYERS = 2**24, 2**12  # the most of one argument that a network can be made of: features, and layers


def require_sizes(least: int, **values: object) -> list[int]:
    """Each value as an int of at least `least`, and no more than a network can be made of."""
    most = dict.fromkeys(values, SIZE) | {"depth": LAYERS, "blocks": LAYERS}
    return [require_count(name, value, least, most[name]) for name, value in values.items()]


def require_input(name: str, x: object) -> Tensor:
    """x, a floating-point tensor with a batch dimension; TypeError for anything else."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or not x.ndim or x.dtype.itemsize == 1:
        got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name} must be a floating-point tensor (B, *); got {got}")
    if x.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor; got a {x.layout} one")
    return x


def group_count(channels: int) -> int:
    """The largest number of groups, at most 32, that divides `channels` into groups of four or more."""
    return max(groups for groups in range(1, 33) if channels % groups == 0 and (channels // groups >= 4 or groups == 1))


class NormAct(nn.Module):
    """y = act((1 + scale) (weight GroupNorm(x + add) + bias) + shift).

    x: (B, C, *), contiguous or channels-last; scale, shift: (B, C) or None; add: (C,), (B, C), as x or None
    -> (B, C, *) in the layout of x.
    (Wu and He 2018, arXiv:1803.08494; modulated as in FiLM, Perez et al. 2017, arXiv:1709.07871.)
    """

    def __init__(self, channels: int, groups: int | None = None, eps: float = 1e-5, act: str = "silu"):
        super().__init__()
        self.groups, self.eps, self.act = group_count(channels) if groups is None else groups, eps, act
        if channels % self.groups:
            raise ValueError(f"groups must divide every number of channels; got {groups} for {channels} channels")
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(
        self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None, *, add: Tensor | None = None
    ) -> Tensor:
        affine = self.weight, self.bias, scale, shift
        return ops.group_norm_act(x, self.groups, *affine, act=self.act, eps=self.eps, add=add)


def without_bias(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """What a convolution makes of x, and the bias that is still to be added to it; None where it is in there.

    On a GPU torch adds it in a kernel of its own, which reads and writes all of the image again: it is left to whoever
    reads the image next. On a CPU the convolution adds it for nothing. A layer with hooks, or of a type that is not
    torch's or ours, is called as it is.
    """
    hooked = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
    plain = type(layer) in PLAIN and layer.padding_mode == "zeros" and layer.bias is not None
    if hooked or not plain or not adds_a_bias_apart(x):
        return layer(x), None
    return layer._conv_forward(x, layer.weight, None), layer.bias


def adds_a_bias_apart(x: Tensor) -> bool:
    """Whether torch's convolutions of x add their bias in a kernel of its own."""
    return x.device.type != "cpu" and not composed(x)


def zero(layer: nn.Module) -> nn.Module:
    """`layer` with all its parameters set to zero: a network that starts as the zero function."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
