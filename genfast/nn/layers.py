"""What the networks are made of. Every layer is row-wise: a sample never sees the other samples of its batch."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from .conditioning import Modulation


def positive_int(name: str, value: int) -> int:
    """`value` itself. Raises ValueError naming the argument unless it is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    return value


def group_count(channels: int) -> int:
    """The largest number of groups, at most 32, that divides `channels` into groups of four or more."""
    return max(groups for groups in range(1, 33) if channels % groups == 0 and (channels // groups >= 4 or groups == 1))


class NormModulateAct(nn.Module):
    """y = SiLU((1 + scale) * GroupNorm(x) + shift), with scale and shift linear in the conditioning vector.

    x: (B, C, *), prepared: (B, M), what `Prepares.prepare` made of that vector for all layers -> (B, C, *). Group
    normalisation without an affine part of its own (Wu and He 2018, arXiv:1803.08494), modulated as in FiLM (Perez et
    al. 2017, arXiv:1709.07871).
    """

    def __init__(self, channels: int, conditioning: int, groups: int | None = None):
        super().__init__()
        self.groups = group_count(channels) if groups is None else groups
        self.modulation = Modulation(conditioning, channels)

    def forward(self, x: Tensor, prepared: Tensor) -> Tensor:
        scale, shift = self.modulation.of(prepared)
        return ops.group_norm_act(x, self.groups, scale=scale, shift=shift)


class ResidualBlock(nn.Module):
    """y = (skip(x) + mix_2(NMA(mix_1(NMA(x))))) / sqrt(2), NMA being NormModulateAct.

    x: (B, inputs, H, W), prepared: (B, M) -> (B, outputs, H, W). `skip` is a 1x1 convolution where the number of
    channels changes. The division keeps the variance level through a stack of blocks (Karras et al. 2022,
    arXiv:2206.00364).
    """

    def __init__(self, inputs: int, outputs: int, conditioning: int):
        super().__init__()
        self.norm_1 = NormModulateAct(inputs, conditioning)
        self.mix_1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm_2 = NormModulateAct(outputs, conditioning)
        self.mix_2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, prepared: Tensor) -> Tensor:
        hidden = self.mix_1(self.norm_1(x, prepared))
        hidden = self.mix_2(self.norm_2(hidden, prepared))
        return (self.skip(x) + hidden) * math.sqrt(0.5)


class Attention(nn.Module):
    """Self-attention over the pixels, added to the input: y = (x + W softmax(q k^T / sqrt(d)) v) / sqrt(2).

    x: (B, C, H, W) -> the same. Heads of d = 64 channels where 64 divides C, else a single one.
    (Vaswani et al. 2017, arXiv:1706.03762.)
    """

    def __init__(self, channels: int):
        super().__init__()
        self.heads = 1 if channels % 64 else channels // 64
        self.norm = nn.GroupNorm(group_count(channels), channels)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.output = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.query_key_value(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1)).transpose(-1, -2)
        query, key, value = tokens.unbind(1)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(-1, -2)
        return (x + self.output(mixed.reshape(x.shape))) * math.sqrt(0.5)


def zero(layer: nn.Module) -> nn.Module:
    """`layer` with all its parameters set to zero: a network that starts as the zero function."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
