"""Whose noise a row is to have: the key of a row is (seed, sample index), and all noise is a function of it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .checks import holds_integers, is_integer, require_integer

MAX_SEED = 2**63 - 1


def make_key(seed: int, index: int | Sequence[int] | Tensor, device: torch.device | str | None = None) -> Tensor:
    """The key (B, 2) = (seed, sample index) of each row, int64, on `device`: by default that of `index`, or the CPU.

    seed: 0 to 2^63 - 1.  index: (B,) sample indices, 0 to 2^63 - 1, or their number B, for 0 to B - 1.
    Raises ValueError naming the argument.
    """
    seed = require_integer("seed", seed, 0, MAX_SEED)
    if is_integer(index):
        index = torch.arange(require_integer("index", index, 0), device="cpu")
    index = index if isinstance(index, Tensor) else torch.as_tensor(index, device="cpu")
    index = index.to(device)
    if index.ndim != 1 or (index.numel() and not holds_integers(index)):
        raise ValueError(f"index must be one-dimensional integers; got {index.dtype} of shape {tuple(index.shape)}")
    index = index.to(torch.int64)
    if index.device.type == "cpu" and index.numel() and int(index.min()) < 0:
        raise ValueError(f"index must not be negative; got {int(index.min())}")
    key = torch.full((len(index), 2), seed, dtype=torch.int64, device=index.device)
    key[:, 1] = index
    return key
