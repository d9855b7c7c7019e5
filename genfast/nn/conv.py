"""Convolutional trunks of autoencoders and adversarial pairs: between images of one size and latents.

Level l has width * multipliers[l] channels and `blocks` residual blocks, at half the size of the level before, rounded
up, so that any size will do. Every network takes label, (B,) integers in [0, classes], and condition, (B, condition)
float (see `Conditions`), and keeps rows apart. Each raises ValueError / TypeError for arguments or tensors of the wrong
shape, dtype or range.
"""

import itertools
import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ..common.checks import require_bool, require_shape
from .conditioning import Conditions
from .layers import NormAct, require_input, require_sizes


class Encoder(nn.Module):
    """Mean and log variance of a latent given an image. (Kingma and Welling 2014, arXiv:1312.6114, appendix C.2.)

    x: (B, channels, *size), whatever (height, width) that is -> two of (B, latent), or if `spatial` of
    (B, latent, h, w), the size of the last level.
    """

    def __init__(
        self,
        size: Sequence[int],
        channels: int = 1,
        latent: int = 16,
        width: int = 32,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 1,
        spatial: bool = False,
        classes: int = 0,
        condition: int = 0,
    ):
        super().__init__()
        size, multipliers = require_shape("size", size), require_shape("multipliers", multipliers)
        channels, latent, width, blocks = require_sizes(
            1, channels=channels, latent=latent, width=width, blocks=blocks
        )  # fmt: skip
        classes, condition = require_sizes(0, classes=classes, condition=condition)
        spatial = require_bool("spatial", spatial)
        self.config = {
            "size": list(size), "channels": channels, "latent": latent, "width": width,
            "multipliers": list(multipliers), "blocks": blocks, "spatial": spatial, "classes": classes,
            "condition": condition,
        }  # fmt: skip
        self.features = 4 * width if classes or condition else 0
        self.conditions = Conditions(self.features, classes, condition)
        self.down = Down(size, channels, width, multipliers, blocks, self.features)
        (last, *end), outputs = self.down.shape, 2 * latent
        self.norm = StyledNormAct(last, self.features)
        if spatial:
            self.output = nn.Conv2d(last, outputs, 3, padding=1)
        else:
            self.output = nn.Sequential(nn.Flatten(), nn.Linear(last * math.prod(end), outputs))

    def forward(self, x: Tensor, label: Tensor | None = None, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.down.check(x)
        c = F.silu(self.conditions(x.new_zeros(len(x), self.features), label, condition))
        mean, log_variance = self.output(self.norm(self.down(x, c), c)).chunk(2, 1)
        return mean, log_variance


class Decoder(nn.Module):
    """An image, or what parametrizes its distribution, given a latent.

    z: (B, latent), or if `spatial` (B, latent, h, w), the size of the last level -> (B, channels, *size), whatever
    (height, width) that is.
    A latent vector, with the conditions, also modulates the norms (Chen et al. 2019, arXiv:1810.01365).
    """

    def __init__(
        self,
        size: Sequence[int],
        channels: int = 1,
        latent: int = 16,
        width: int = 32,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 1,
        spatial: bool = False,
        classes: int = 0,
        condition: int = 0,
    ):
        super().__init__()
        size, multipliers = require_shape("size", size), require_shape("multipliers", multipliers)
        channels, latent, width, blocks = require_sizes(
            1, channels=channels, latent=latent, width=width, blocks=blocks
        )  # fmt: skip
        classes, condition = require_sizes(0, classes=classes, condition=condition)
        spatial = require_bool("spatial", spatial)
        self.config = {
            "size": list(size), "channels": channels, "latent": latent, "width": width,
            "multipliers": list(multipliers), "blocks": blocks, "spatial": spatial, "classes": classes,
            "condition": condition,
        }  # fmt: skip
        self.sizes, widths = pyramid(size, width, multipliers)
        end, last = self.sizes[-1], widths[-1]
        self.shape = (latent, *(end if spatial else ()))
        self.features = 4 * width if classes or condition or not spatial else 0
        self.style = None if spatial else nn.Linear(latent, self.features)
        self.conditions = Conditions(self.features, classes, condition)
        if spatial:
            self.input = nn.Conv2d(latent, last, 3, padding=1)
        else:
            self.input = nn.Sequential(nn.Linear(latent, last * math.prod(end)), nn.Unflatten(1, (last, *end)))
        self.levels = nn.ModuleList(
            residual_blocks(below, here, blocks, self.features)
            for below, here in zip([last, *widths[:0:-1]], reversed(widths), strict=True)
        )
        self.norm = StyledNormAct(widths[0], self.features)
        self.output = nn.Conv2d(widths[0], channels, 3, padding=1)

    def forward(self, z: Tensor, label: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        if require_input("z", z).shape[1:] != self.shape:
            raise ValueError(f"z must have shape (B, {', '.join(map(str, self.shape))}); got {tuple(z.shape)}")
        c = z.new_zeros(len(z), self.features) if self.style is None else self.style(z)
        c = F.silu(self.conditions(c, label, condition))
        hidden = ops.in_fast_layout(self.input(z))
        for index, (level, size) in enumerate(zip(self.levels, reversed(self.sizes), strict=True)):
            if index:
                hidden = F.interpolate(hidden, size=size, mode="nearest")
            for block in level:
                hidden = block(hidden, c)
        return self.output(self.norm(hidden, c)).contiguous()


class Generator(Decoder):
    """A Decoder whose images lie in (-1, 1), as those of the built-in data do."""

    def forward(self, z: Tensor, label: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        return super().forward(z, label, condition).tanh()


class Discriminator(nn.Module):
    """How real an image looks: <w + e_label + W c, f(x)> + b. (Miyato and Koyama 2018, arXiv:1802.05637.)

    x: (B, channels, *size), whatever (height, width) that is -> (B,), a logit. Without norms, which a penalty on the
    gradient of a row does not suit.
    """

    def __init__(
        self,
        size: Sequence[int],
        channels: int = 1,
        width: int = 32,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 1,
        classes: int = 0,
        condition: int = 0,
    ):
        super().__init__()
        size, multipliers = require_shape("size", size), require_shape("multipliers", multipliers)
        channels, width, blocks = require_sizes(1, channels=channels, width=width, blocks=blocks)
        classes, condition = require_sizes(0, classes=classes, condition=condition)
        self.config = {
            "size": list(size), "channels": channels, "width": width, "multipliers": list(multipliers),
            "blocks": blocks, "classes": classes, "condition": condition,
        }  # fmt: skip
        self.down = Down(size, channels, width, multipliers, blocks, norm=False)
        features = 4 * width
        self.features = nn.Sequential(nn.SiLU(), nn.Flatten(), nn.Linear(math.prod(self.down.shape), features))
        self.output = nn.Linear(features, 1)
        self.conditions = Conditions(features, classes, condition)
        if classes:
            nn.init.normal_(self.conditions.label.weight, std=features**-0.5)

    def forward(self, x: Tensor, label: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        self.down.check(x)
        weight = self.conditions(self.output.weight.expand(len(x), -1), label, condition)
        features = F.silu(self.features(self.down(x)))
        return (weight * features).sum(1) + self.output.bias


def pyramid(size: Sequence[int], width: int, multipliers: Sequence[int]) -> tuple[list[tuple[int, ...]], list[int]]:
    """Size and number of channels of each level."""
    if len(size) != 2:
        raise ValueError(f"size must be (height, width); got {size!r}")
    require_sizes(1, multipliers=max(multipliers))
    sizes = [tuple(-(-n // 2**level) for n in size) for level in range(len(multipliers))]
    return sizes, [width * factor for factor in multipliers]


class Down(nn.Module):
    """From an image to the last level. x: (B, channels, *size), c: (B, features) -> (B, *shape)."""

    def __init__(
        self, size: Sequence[int], channels: int, width: int, multipliers: Sequence[int], blocks: int,
        features: int = 0, norm: bool = True,
    ):  # fmt: skip
        super().__init__()
        sizes, widths = pyramid(size, width, multipliers)
        self.norm = norm
        self.expected, self.shape = (channels, *sizes[0]), (widths[-1], *sizes[-1])
        self.input = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(
            residual_blocks(above, here, blocks, features, norm)
            for above, here in zip([widths[0], *widths[:-1]], widths, strict=True)
        )
        self.halve = nn.ModuleList(nn.Conv2d(here, here, 3, stride=2, padding=1) for here in widths[:-1])

    def check(self, x: Tensor) -> None:
        if require_input("x", x).shape[1:] != self.expected:
            raise ValueError(f"x must have shape (B, {', '.join(map(str, self.expected))}); got {tuple(x.shape)}")

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        self.check(x)
        hidden = ops.in_fast_layout(self.input(x)) if self.norm else self.input(x)
        for index, level in enumerate(self.levels):
            if index:
                hidden = self.halve[index - 1](hidden)
            for block in level:
                hidden = block(hidden, c)
        return hidden


def residual_blocks(inputs: int, outputs: int, blocks: int, features: int, norm: bool = True) -> nn.ModuleList:
    counts = [inputs] + [outputs] * blocks
    return nn.ModuleList(ConvBlock(*pair, features, norm) for pair in itertools.pairwise(counts))


class ConvBlock(nn.Module):
    """y = (skip(x) + mix_2(act(mix_1(act(x))))) / sqrt(2), act being StyledNormAct, or SiLU where there is no norm.

    x: (B, inputs, H, W), c: (B, features) -> (B, outputs, H, W).
    """

    def __init__(self, inputs: int, outputs: int, features: int, norm: bool):
        super().__init__()
        self.norm_1 = StyledNormAct(inputs, features) if norm else None
        self.mix_1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm_2 = StyledNormAct(outputs, features) if norm else None
        self.mix_2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, c: Tensor | None) -> Tensor:
        hidden = self.mix_1(F.silu(x) if self.norm_1 is None else self.norm_1(x, c))
        hidden = self.mix_2(F.silu(hidden) if self.norm_2 is None else self.norm_2(hidden, c))
        return (self.skip(x) + hidden) * math.sqrt(0.5)


class StyledNormAct(NormAct):
    """NormAct with scale and shift linear in c: (B, features), or without them where features = 0."""

    def __init__(self, channels: int, features: int):
        super().__init__(channels)
        self.style = nn.Linear(features, 2 * channels) if features else None

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        return super().forward(x) if self.style is None else super().forward(x, *self.style(c).chunk(2, 1))
