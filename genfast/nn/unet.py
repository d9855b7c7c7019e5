"""A small U-Net for images."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conditioning import Conditioning, Prepares
from .layers import Attention, NormModulateAct, ResidualBlock, positive_int, zero


class UNet(Prepares):
    """Residual blocks on a pyramid of resolutions, joined level by level (Ronneberger et al. 2015, arXiv:1505.04597).

    Level l has `width * multipliers[l]` channels at 1 / 2^l of the size and `blocks` residual blocks on the way down
    and as many on the way up, with self-attention after each block of the levels listed in `attention` and in the
    middle if the last level is listed.

    x: (B, channels, H, W) float with H and W divisible by 2^(len(multipliers) - 1); t: (B,) float, the conditioning
    value of the parameterisation; label: (B,) int64 in [0, classes], `classes` being the null label and None null
    for all -> the shape of x. The output starts at zero.
    Raises ValueError / TypeError for arguments, x, t or label of the wrong shape, dtype or range.
    """

    def __init__(
        self,
        channels: int = 1,
        width: int = 32,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 1,
        attention: Sequence[int] = (),
        classes: int = 0,
    ):
        super().__init__()
        self.config = {
            "channels": channels,
            "width": width,
            "multipliers": list(multipliers),
            "blocks": blocks,
            "attention": list(attention),
            "classes": classes,
        }
        self.channels = positive_int("channels", channels)
        widths = [positive_int("width", width) * positive_int("multipliers", factor) for factor in multipliers]
        if not widths:
            raise ValueError("multipliers must name at least one level, got none")
        positive_int("blocks", blocks)
        if not set(attention) <= set(range(len(widths))):
            raise ValueError(f"attention must list levels in 0..{len(widths) - 1}, got {list(attention)}")
        conditioning = 4 * width

        def level(index: int, inputs: list[int]) -> nn.ModuleList:
            """One stage per entry of `inputs`: a residual block, then attention where this level has it."""
            return nn.ModuleList(Stage(count, widths[index], conditioning, index in attention) for count in inputs)

        self.factor = 2 ** (len(widths) - 1)
        self.condition = Conditioning(conditioning, classes)
        self.input = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        below = widths[0]
        for index, here in enumerate(widths):
            self.down.append(level(index, [below] + [here] * (blocks - 1)))
            below = here
        self.middle = Stage(below, below, conditioning, len(widths) - 1 in attention)
        for index, here in reversed(list(enumerate(widths))):
            self.up.append(level(index, [below + here] + [2 * here] * (blocks - 1)))
            below = here
        self.norm = NormModulateAct(below, conditioning)
        self.output = zero(nn.Conv2d(below, channels, 3, padding=1))
        self.number_columns()

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None, *, prepared: Tensor | None = None) -> Tensor:
        self.check(x)
        if prepared is None:
            prepared = self.prepare(t, label, rows=x)
        hidden, skips = self.input(x), []
        for index, level in enumerate(self.down):
            if index:
                hidden = F.avg_pool2d(hidden, 2)
            for stage in level:
                hidden = stage(hidden, prepared)
                skips.append(hidden)
        hidden = self.middle(hidden, prepared)
        for index, level in enumerate(self.up):
            if index:
                hidden = F.interpolate(hidden, scale_factor=2.0, mode="nearest")
            for stage in level:
                hidden = stage(torch.cat([hidden, skips.pop()], dim=1), prepared)
        return self.output(self.norm(hidden, prepared))

    def check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ValueError(f"x must have shape (B, {self.channels}, H, W), got {tuple(x.shape)}")
        height, width = x.shape[2:]
        if height % self.factor or width % self.factor or not height * width:
            raise ValueError(
                f"x must have a height and width divisible by {self.factor} (one halving per level but the first), "
                f"got {height} x {width}"
            )


class Stage(nn.Module):
    """A residual block, then self-attention if asked. x: (B, inputs, H, W), prepared: (B, M) -> (B, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int, conditioning: int, attention: bool):
        super().__init__()
        self.block = ResidualBlock(inputs, outputs, conditioning)
        self.attention = Attention(outputs) if attention else nn.Identity()

    def forward(self, x: Tensor, prepared: Tensor) -> Tensor:
        return self.attention(self.block(x, prepared))
