"""A U-Net for images, sequences and volumes."""

import dataclasses
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ..common.checks import is_integer, require_bool, require_integer, require_number
from ..common.keys import require_key
from .conditioning import Conditioning, Prepares
from .layers import SIZE, require_input, require_sizes, zero
from .residual import Attention, ResidualBlock, Style
from .timesteps import Sinusoid

SHAPES = {1: "(B, {}, L)", 2: "(B, {}, H, W)", 3: "(B, {}, D, H, W)"}


class UNet(Prepares):
    """Residual blocks on a pyramid of resolutions whose two sides are joined block by block (Ronneberger et al. 2015,
    arXiv:1505.04597; as a score network Ho et al. 2020, arXiv:2006.11239, Song et al. 2021, arXiv:2011.13456, Dhariwal
    and Nichol 2021, arXiv:2105.05233).

    Level l has `width * multipliers[l]` channels, any whole number, at 1 / 2^l of the resolution: `blocks` residual
    blocks on the way down, `blocks + 1` on the way up, where each takes one of the tensors kept on the way down (after
    the first convolution, every block and every halving). In the levels listed in `attention`, 0 being the full
    resolution, self-attention follows every block. `style`: keywords that are fields of Style.

    x: (B, channels, *) float of two spatial dimensions (`dims`), each a multiple of 2^(len(multipliers) - 1), powers of
    two or not. With `pad` of any size: zeros at the right and below, up to the next multiple, which are cut off at the
    end; a size that fits has the same bits. t: (B,) float, the conditioning value of the parameterization; label: (B,)
    integers in [0, classes], `classes` being the null label and None null for all; condition: (B, condition) float, see
    Conditions; key: (B, 2), see `ops.make_key`, of which dropout is a function: needed in training if there is any,
    else not looked at
    -> (B, out_channels, *), by default as x, in the layout of x. The output starts at zero.
    Raises ValueError / TypeError for arguments, x, t, label, condition or key of the wrong shape, dtype or range.
    """

    def __init__(
        self,
        channels: int = 1,
        width: int = 32,
        multipliers: Sequence[float] = (1, 2),
        blocks: int = 1,
        attention: Sequence[int] = (),
        classes: int = 0,
        condition: int = 0,
        *,
        out_channels: int | None = None,
        pad: bool = False,
        **style,
    ):
        super().__init__()
        for name, value in (("multipliers", multipliers), ("attention", attention)):
            if not isinstance(value, Sequence):
                raise ValueError(f"{name} must be a list of numbers, one for each level it is of; got {value!r}")
        channels, width, blocks = require_sizes(1, channels=channels, width=width, blocks=blocks)
        classes, condition = require_sizes(0, classes=classes, condition=condition)
        if out_channels is not None:
            (out_channels,) = require_sizes(1, out_channels=out_channels)
        multipliers = [_multiplier(n) for n in multipliers]
        widths = channel_counts(width, multipliers)
        last = len(widths) - 1
        attention = [require_integer("attention", level, 0, last) for level in attention]
        self.style = Style(**style)
        self.config = {
            "channels": channels,
            "width": width,
            "multipliers": multipliers,
            "blocks": blocks,
            "attention": attention,
            "classes": classes,
            "condition": condition,
            "out_channels": out_channels,
            "pad": require_bool("pad", pad),
            **dataclasses.asdict(self.style),
        }
        self.channels, self.factor, self.pad = channels, 2**last, self.config["pad"]
        vector = 4 * width  # the length of the conditioning vector

        time = None if self.style.timesteps is None else Sinusoid(width, **self.style.timesteps)
        self.condition = Conditioning(vector, classes, condition, time=time)
        self.input = self.style.convolution(channels, widths[0])
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        here, kept = widths[0], [widths[0]]  # channels
        for index, of_level in enumerate(widths):
            inputs = [here] + [of_level] * (blocks - 1)
            halve = self.style.halve(of_level) if index < last else None
            self.down.append(Level(inputs, of_level, vector, self.style, index in attention, halve))
            here, kept = of_level, kept + [of_level] * (blocks + (index < last))
        middle = [ResidualBlock(here, here, vector, self.style) for _ in range(2)]
        self.middle = nn.ModuleList([Stage(middle[0], self.style.middle_attention(here)), Stage(middle[1])])
        for index, of_level in reversed(list(enumerate(widths))):
            inputs = [before + kept.pop() for before in [here] + [of_level] * blocks]
            double = self.style.double(of_level) if index > 0 else None
            self.up.append(Level(inputs, of_level, vector, self.style, index in attention, double))
            here = of_level
        self.norm = self.style.norm(here)
        self.output = zero(self.style.convolution(here, channels if out_channels is None else out_channels))
        self.only_norms = self.style.modulation == "scale_shift"
        self.number_vectors()
        for number, block in enumerate(module for module in self.modules() if isinstance(module, ResidualBlock)):
            block.layer = number

    @property
    def wants_key(self) -> bool:
        """Whether it takes `key`: loss functions then pass theirs."""
        return self.style.dropout > 0

    @property
    def counts_steps(self) -> bool:
        """Whether t is a number of steps, up to about 1000: a Diffusion tells such a network 999 t."""
        return self.style.timesteps is not None and self.style.timesteps.get("scale", 1) == 1

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        label: Tensor | None = None,
        condition: Tensor | None = None,
        *,
        prepared: Tensor | None = None,
        key: Tensor | None = None,
    ) -> Tensor:
        self.check(x)
        key = self.key_for(x, key)
        vectors = self.vectors(x, t, label, condition, prepared)
        hidden = ops.in_fast_layout(self.input(self.padded(x)))
        kept = [hidden]
        for level in self.down:
            for stage in level.stages:
                hidden = stage(hidden, vectors, key)
                kept.append(hidden)
            if level.resample is not None:
                hidden = level.resample(hidden)
                kept.append(hidden)
        for stage in self.middle:
            hidden = stage(hidden, vectors, key)
        for level in self.up:
            for stage in level.stages:
                hidden = stage(torch.cat([hidden, kept.pop()], dim=1), vectors, key)
            if level.resample is not None:
                hidden = level.resample(hidden)
        y = self.output(self.norm(hidden))
        if y.shape[2:] != x.shape[2:]:
            y = y[(..., *map(slice, x.shape[2:]))].clone()  # without gaps, in the layout that it has
        return y.contiguous() if x.is_contiguous() else y

    def check(self, x: Tensor) -> None:
        if require_input("x", x).ndim != self.style.dims + 2 or x.shape[1] != self.channels:
            shape = SHAPES[self.style.dims].format(self.channels)
            raise ValueError(f"x must have shape {shape}; got {tuple(x.shape)}")
        sizes = x.shape[2:]
        if not math.prod(sizes) or (not self.pad and any(size % self.factor for size in sizes)):
            wanted = f" divisible by {self.factor} (one halving per level but the first; pad=True takes any)"
            raise ValueError(
                f"x must have positive sizes{'' if self.pad else wanted}; got {' x '.join(map(str, sizes))}"
            )

    def padded(self, x: Tensor) -> Tensor:
        """x, with zeros behind it along each axis up to the next size that can be halved."""
        missing = [-size % self.factor for size in reversed(x.shape[2:])]
        return F.pad(x, [n for behind in missing for n in (0, behind)]) if any(missing) else x

    def key_for(self, x: Tensor, key: Tensor | None) -> Tensor | None:
        """The key of dropout, None for none. ValueError or TypeError where it is missing, or not one row a sample."""
        if not (self.training and self.wants_key):
            return None
        if key is None:
            raise ValueError(
                f"key must be given to a network with dropout ({self.style.dropout}) in training: key=, (B, 2), as "
                "ops.make_key gives it and loss functions pass it on; got None"
            )
        require_key(key, len(x))
        return key


class Level(nn.Module):
    """The stages of one resolution on one side, one for each of `inputs`, and then `resample` or None."""

    def __init__(
        self, inputs: list[int], outputs: int, vector: int, style: Style, attention: bool, resample: nn.Module | None
    ):
        super().__init__()
        attend = [Attention(outputs, style) if attention else None for _ in inputs]
        self.stages = nn.ModuleList(
            Stage(ResidualBlock(count, outputs, vector, style), layer) for count, layer in zip(inputs, attend)
        )
        self.resample = resample


class Stage(nn.Module):
    """A residual block, then self-attention or nothing. x: (B, inputs, *), vectors and key: as of the block
    -> (B, outputs, *)."""

    def __init__(self, block: ResidualBlock, attention: Attention | None = None):
        super().__init__()
        self.block, self.attention = block, attention

    def forward(self, x: Tensor, vectors: Sequence[Tensor], key: Tensor | None = None) -> Tensor:
        x = self.block(x, vectors, key)
        return x if self.attention is None else self.attention(x)


def _multiplier(value: float) -> float:
    if is_integer(value):
        return require_integer("multipliers", value, 1)
    return require_number("multipliers", value, above=0)


def channel_counts(width: int, multipliers: Sequence[float]) -> list[int]:
    """The number of channels of each level."""
    if not multipliers:
        raise ValueError("multipliers must name at least one level; got none")
    counts = [round(width * factor) for factor in multipliers]
    if max(counts) > SIZE:
        raise ValueError(f"multipliers must make at most {SIZE} channels of width {width}; got {list(multipliers)}")
    if any(count < 1 or abs(count - width * factor) > 1e-6 for count, factor in zip(counts, multipliers)):
        raise ValueError(f"multipliers must make whole numbers of channels of width {width}; got {list(multipliers)}")
    return counts
