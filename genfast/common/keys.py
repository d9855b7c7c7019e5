"""Whose noise a row is to have: the key of a row is (seed, sample index), and all noise is a function of it."""

from collections.abc import Sequence

import torch
from torch import Tensor

MAX_SEED = 2**63 - 1


def make_key(seed: int, index: int | Sequence[int] | Tensor, device: torch.device | str | None = None) -> Tensor:
    """The key (B, 2) = (seed, sample index) of each row, int64, on `device`.

    seed: 0 to 2^63 - 1.  index: (B,) sample indices, 0 to 2^63 - 1, or their number B, for 0 to B - 1.
    """
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"seed must be an int, got {type(seed).__name__}")
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed must lie in [0, 2^63 - 1], got {seed}")
    if isinstance(index, int):
        if index < 0:
            raise ValueError(f"index, the number of rows, must not be negative, got {index}")
        index = torch.arange(index)
    index = torch.as_tensor(index, device=device)
    if index.ndim != 1 or (index.numel() and index.dtype not in (torch.int64, torch.int32)):
        raise ValueError(f"index must be one-dimensional integers, got {index.dtype} of shape {tuple(index.shape)}")
    if index.device.type == "cpu" and index.numel() and int(index.min()) < 0:
        raise ValueError(f"index must not be negative, got {int(index.min())}")
    key = torch.full((len(index), 2), seed, dtype=torch.int64, device=index.device)
    key[:, 1] = index
    return key
