"""Differentiable augmentation of what a discriminator sees, real and generated alike.

Zhao et al. 2020, arXiv:2006.10738. Each takes images (B, C, H, W) and u, (B, 4) in [0, 1), a row of numbers an image,
and is differentiable in the images.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import ops
from ..common.checks import require_choice, require_integer, require_names, require_samples
from ..ops import Purpose
from ..ops.noise import MAX_STEP


def _checked(x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Both; TypeError or ValueError unless they are images and as many rows of numbers."""
    x = require_samples("x", x, batch="B")
    if x.ndim != 4:
        raise ValueError(f"x must have shape (B, C, H, W); got {tuple(x.shape)}")
    if len(u := require_samples("u", u, (4,), batch="B")) != len(x):
        raise ValueError(f"u must have shape ({len(x)}, 4), a row an image; got {tuple(u.shape)}")
    return x, u


def translation(x: Tensor, u: Tensor) -> Tensor:
    """Moved by whole pixels, up to an eighth of the size each way; what comes in from outside is 0."""
    x, u = _checked(x, u)
    for axis, draw in ((2, u[:, 0]), (3, u[:, 1])):
        size = x.shape[axis]
        most = size // 8 if size >= 8 else 0
        shift = ((2 * most + 1) * draw).long() - most
        source = torch.arange(size, device=x.device) - shift[:, None]  # (B, size)
        inside = (source >= 0) & (source < size)
        shape = (len(x), 1, size, 1) if axis == 2 else (len(x), 1, 1, size)
        index = source.clamp(0, size - 1).reshape(shape).expand(x.shape)
        x = x.gather(axis, index) * inside.reshape(shape)
    return x


def cutout(x: Tensor, u: Tensor) -> Tensor:
    """0 in a rectangle of half the height and half the width, its center anywhere."""
    x, u = _checked(x, u)
    hidden = torch.ones(len(x), 1, 1, 1, dtype=torch.bool, device=x.device)
    for axis, draw in ((2, u[:, 0]), (3, u[:, 1])):
        size = x.shape[axis]
        place = torch.arange(size, dtype=draw.dtype, device=x.device) + 0.5 - size * draw[:, None]
        shape = (len(x), 1, size, 1) if axis == 2 else (len(x), 1, 1, size)
        hidden = hidden & (place.abs() <= size / 4).reshape(shape)
    return x * ~hidden


def color(x: Tensor, u: Tensor) -> Tensor:
    """Brightness moved by up to 0.5, saturation scaled by 0 to 2, contrast by 0.5 to 1.5."""
    x, u = _checked(x, u)
    brightness, saturation, contrast = (column.reshape(-1, 1, 1, 1).to(x.dtype) for column in u[:, :3].unbind(1))
    x = x + brightness - 0.5
    gray = x.mean(1, keepdim=True)
    x = gray + 2 * saturation * (x - gray)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (contrast + 0.5) * (x - mean)


AUGMENTATIONS = {"color": color, "translation": translation, "cutout": cutout}


def augmented(x: Tensor, key: Tensor, names: Sequence[str], step: int) -> Tensor:
    """x, (B, C, H, W), after each of the augmentations by name; a function of x, key (B, 2), names and `step`.

    Raises ValueError for an x of another number of dimensions, if there are any names.
    """
    names, x = require_names("names", names), require_samples("x", x, batch="B")
    step = require_integer("step", step, 0, MAX_STEP // 16 - 1)
    if names and x.ndim != 4:
        raise ValueError(f"augment is for images (B, C, H, W); got x of shape {tuple(x.shape)}")
    for place, name in enumerate(names):
        u = ops.uniform(key, (4,), Purpose.TRAIN, 16 * step + place)
        x = AUGMENTATIONS[require_choice("names", name, AUGMENTATIONS)](x, u)
    return x
