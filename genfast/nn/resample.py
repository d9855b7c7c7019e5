"""Halving and doubling the size of an image, a sequence or a volume."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import CONVOLUTIONS

TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class Downsample(nn.Module):
    """Half the size: a 3x3 convolution of stride 2. x: (B, C, *), sizes even -> (B, C, * / 2).

    The padding of one pixel a dimension lies on both sides of the image, or only behind it (`behind`), where the
    convolution reads pixels 2i, 2i + 1 and 2i + 2 rather than 2i - 1, 2i and 2i + 1.
    """

    def __init__(self, channels: int, dims: int = 2, behind: bool = False):
        super().__init__()
        self.behind = behind
        self.mix = CONVOLUTIONS[dims](channels, channels, 3, stride=2, padding=0 if behind else 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(F.pad(x, (0, 1) * (x.ndim - 2)) if self.behind else x)


class Upsample(nn.Module):
    """Twice the size: every pixel repeated, then a 3x3 convolution. x: (B, C, *) -> (B, C, 2 *).

    Computed as one transposed convolution of stride 2 whose kernel is the convolution of the 3x3 one with 2x2 ones:
    4 products an output rather than 9, and no large image in between. Making that kernel takes as long as a few hundred
    pixels do, so it is not done for less. `mix` keeps the 3x3 kernel.
    """

    def __init__(self, channels: int, dims: int = 2):
        super().__init__()
        self.mix = CONVOLUTIONS[dims](channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() <= 256 * x.shape[1]:
            return self.mix(repeat(x))
        return TRANSPOSED[x.ndim - 2](x, doubled(self.mix.weight), self.mix.bias, stride=2, padding=1)


def doubled(weight: Tensor) -> Tensor:
    """The kernel (I, O, 4, ...) with which a transposed convolution of stride 2 and padding 1 does what repeating every
    pixel and convolving with `weight`, (O, I, 3, ...), does.

    Along one dimension, pixel i is repeated at 2i and 2i + 1, and tap k takes them to 2i + 1 - k and 2i + 2 - k: so
    place 2i - 1 gets tap 2; 2i taps 2 and 1; 2i + 1 taps 1 and 0; 2i + 2 tap 0.
    """
    weight = weight.transpose(0, 1)
    for axis in range(2, weight.ndim):
        first, middle, last = weight.unbind(axis)
        weight = torch.stack([last, last + middle, middle + first, first], axis)
    return weight


def repeat(x: Tensor) -> Tensor:
    """Every pixel repeated. x: (B, C, *) -> (B, C, 2 *)."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Pool(nn.Module):
    """Half the size: the mean of 2 x 2 pixels. x: (B, C, *), sizes even -> (B, C, * / 2)."""

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 5:  # torch's avg_pool3d has no bfloat16 on the CPU
            return F.interpolate(x, scale_factor=0.5, mode="area")
        return F.avg_pool1d(x, 2) if x.ndim == 3 else F.avg_pool2d(x, 2)


class Repeat(nn.Module):
    """Twice the size: every pixel repeated. x: (B, C, *) -> (B, C, 2 *)."""

    def forward(self, x: Tensor) -> Tensor:
        return repeat(x)
