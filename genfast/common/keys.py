"""Whose noise a row is to have: the key of a row is (seed, sample index), and all noise is a function of it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .checks import as_tensor, holds_integers, is_integer, require_device, require_integer

MAX_SEED = 2**63 - 1


def make_key(seed: int, index: int | Sequence[int] | Tensor, device: torch.device | str | None = None) -> Tensor:
    """The key (B, 2) = (seed, sample index) of each row, int64, on `device`: by default that of `index`, or the CPU.

    seed: 0 to 2^63 - 1.  index: (B,) sample indices, 0 to 2^63 - 1, or their number B, for 0 to B - 1.
    Raises ValueError or TypeError naming the argument.
    """
    seed = require_integer("seed", seed, 0, MAX_SEED)
    if device is not None and not isinstance(device, torch.device):
        device = require_device("device", device)
    if is_integer(index):
        index = torch.arange(require_integer("index", index, 0), device="cpu")
    index = index if isinstance(index, Tensor) else as_tensor("index", index)
    index = index.to(device)
    if index.ndim != 1 or (index.numel() and not holds_integers(index)):
        raise ValueError(f"index must be one-dimensional integers; got {index.dtype} of shape {tuple(index.shape)}")
    index = index.to(torch.int64)
    if index.device.type == "cpu" and index.numel() and int(index.min()) < 0:
        raise ValueError(f"index must not be negative; got {int(index.min())}")
    key = torch.full((len(index), 2), seed, dtype=torch.int64, device=index.device)
    key[:, 1] = index
    return key


def require_key(key: object, count: int | None = None) -> None:
    """TypeError or ValueError unless key is (count, 2) int64, one row a sample, as `make_key` gives it; count: None for
    any."""
    shape = f"({'B' if count is None else count}, 2)"
    if not isinstance(key, Tensor):
        raise TypeError(f"key must be a tensor {shape}, one row a sample; got {type(key).__name__}")
    if key.ndim != 2 or key.shape[1] != 2 or count not in (None, len(key)):
        raise ValueError(f"key must have shape {shape}, one row a sample; got {tuple(key.shape)}")
    if key.dtype != torch.int64:
        raise ValueError(f"key must be int64, as make_key gives it; got {key.dtype}")
