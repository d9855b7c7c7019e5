"""Where images have their channels, and what 8-bit ones become."""

import torch
from torch import Tensor

from ..common.checks import require_choice

LAYOUTS = (None, "chw", "hwc")
CHANNELS = (1, 3, 4)  # gray, RGB, RGB with alpha
PART = 4096  # images with alpha that are laid on white at once
SMALLEST = 8  # pixels a side that floats with channels last have at least: fewer may be a small grid of features


def channels_last(x: Tensor, layout: str | None) -> bool:
    """Whether samples x, (N, *), are images with their channels last.

    layout  "chw" or "hwc" is what they are. None is told by the shape: 8-bit images are (H, W, C) where the last axis
            is 1, 3 or 4 and the first is not, and (C, H, W) where it is the first. Of floats, which may be anything,
            nothing is guessed
    Raises ValueError, naming `layout`, where both could be, or neither, or where floats look like (H, W, C).
    """
    layout, shape, whole = require_choice("layout", layout, LAYOUTS), tuple(x.shape[1:]), x.dtype == torch.uint8
    got = f"(N, {', '.join(map(str, shape))})"
    if len(shape) != 3:
        if layout == "hwc":
            raise ValueError(f"x must have shape (N, H, W, C) for layout='hwc'; got {got}")
        return False
    first, last = (shape[axis] in CHANNELS for axis in (0, 2))
    if layout == "hwc" and whole and not last:
        raise ValueError(f"x must have 1, 3 or 4 channels in 8 bits; got {got} with layout='hwc'")
    if layout is not None:
        return layout == "hwc"
    if whole and first == last:
        which = "either side could be the channels" if first else "neither side is 1, 3 or 4 channels"
    elif x.is_floating_point() and last and not first and min(shape[:2]) >= SMALLEST:
        which = "the last side looks like the channels, which are the first"
    else:
        return whole and last
    said = "gf.data.arrays and gf.data.load take it"
    raise ValueError(f"layout must be 'hwc' or 'chw' for x of shape {got}, where {which}; got None: {said}")


def of_8_bits(x: Tensor, last: bool) -> Tensor:
    """Images (n, C, H, W) in 8 bits, without alpha, from (n, H, W), (n, C, H, W) or, where channels are `last`,
    (n, H, W, C); 4 channels, the last of which is alpha, are 3 on white."""
    if last:
        x = x.movedim(3, 1)
    elif x.ndim == 3:
        x = x[:, None]
    return torch.cat([_on_white(part) for part in x.split(PART)]) if x.shape[1] == 4 and len(x) else x.contiguous()


def shape_of_8_bits(shape: tuple[int, ...], last: bool) -> tuple[int, ...]:
    """The shape of one sample after `of_8_bits`."""
    channels, *sides = (shape[2], *shape[:2]) if last else (1, *shape) if len(shape) == 2 else shape
    return 3 if channels == 4 else channels, *sides


def _on_white(x: Tensor) -> Tensor:
    color, alpha = x[:, :3].to(torch.int32), x[:, 3:].to(torch.int32)
    return ((color * alpha + 255 * (255 - alpha) + 127) // 255).to(torch.uint8)
