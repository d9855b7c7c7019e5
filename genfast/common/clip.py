"""Samples in the range of the data."""

from torch import Tensor

from .checks import require_pair


def as_clip(clip: object, levels: int | None) -> tuple[float, float] | None:
    """The argument `clip`, (low, high) or None. "auto" is (-1, 1) for data of so many `levels`, -1 to 1, and None for
    others, of which levels is None. Raises ValueError for anything else."""
    if isinstance(clip, str) and clip == "auto":
        return None if levels is None else (-1.0, 1.0)
    return None if clip is None else require_pair("clip", clip, infinite=True)


def clipped(x: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    """x, (*), in [low, high]."""
    return x if bounds is None else x.clamp(*bounds)
