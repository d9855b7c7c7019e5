"""What is done to images as they are trained on: flips and crops, each a function of (seed, sample counter)."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from ..common.checks import require_bool, require_integer, shown
from ..common.keys import make_key
from ..ops import Purpose, uniform


@dataclasses.dataclass(frozen=True)
class Augment:
    """Images as training sees them, x[:, top : top + h, left : left + w], with probability 1/2 from right to left.

        u_0, u_1, u_2 ~ U[0, 1) of the key (seed, counter);   flipped where u_0 < 1/2
        top = floor(u_1 (H - h + 1)),   left = floor(u_2 (W - w + 1))

    flip    whether images are flipped
    crop    (h, w), or None for the whole of them
    What an image becomes is the same on every device, in any batch and in any process. Raises ValueError naming flip or
    crop.
    """

    flip: bool = True
    crop: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "flip", require_bool("flip", self.flip))
        if self.crop is not None:
            pair = self.crop if isinstance(self.crop, Sequence) and not isinstance(self.crop, str | bytes) else ()
            if len(pair) != 2:
                raise ValueError(f"crop must be (height, width) or None; got {shown(self.crop)}")
            object.__setattr__(self, "crop", tuple(require_integer("crop", side, 1) for side in pair))

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what becomes of an image (C, H, W). Raises ValueError for what is none, or smaller than crop."""
        if len(shape) != 3:
            raise ValueError(f"data must be images, (channels, height, width), to be augmented; got shape {shape}")
        channels, *sides = shape
        crop = self._size(shape)
        if any(side > whole for side, whole in zip(crop, sides)):
            raise ValueError(f"crop must be at most {tuple(sides)}, the height and width of the images; got {crop}")
        return channels, *crop

    def centered(self, x: Tensor) -> Tensor:
        """The middle of each image, (B, C, h, w), as it is: what is evaluated."""
        (height, width), (h, w) = x.shape[2:], self._size(x.shape[1:])
        top, left = (height - h) // 2, (width - w) // 2
        return x[..., top : top + h, left : left + w].contiguous()

    def __call__(self, x: Tensor, seed: int, counter: Tensor) -> Tensor:
        """Image b as it is in the run `seed` when it is sample number counter[b]: (B, C, h, w) from x (B, C, H, W) of
        any dtype. counter: (B,) int64."""
        (height, width), (h, w) = x.shape[2:], self._size(x.shape[1:])
        u = uniform(make_key(seed, counter, x.device), (3,), Purpose.AUGMENT, dtype=torch.float64)
        top, left = ((u[:, n : n + 1] * room).long() for n, room in ((1, height - h + 1), (2, width - w + 1)))
        rows, columns = (at + torch.arange(size, device=x.device) for at, size in ((top, h), (left, w)))
        if self.flip:
            columns = torch.where(u[:, :1] < 0.5, columns.flip(1), columns)
        image = torch.arange(len(x), device=x.device)[:, None, None]
        return x.movedim(1, -1)[image, rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()

    def described(self) -> dict:
        """For JSON."""
        return {"flip": self.flip, "crop": None if self.crop is None else list(self.crop)}

    def _size(self, shape: Sequence[int]) -> tuple[int, int]:
        """Height and width of what becomes of an image of this shape."""
        return tuple(shape[1:]) if self.crop is None else self.crop
