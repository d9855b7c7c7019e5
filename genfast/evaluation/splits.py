"""Random parts of n samples, by their indices."""

import numpy as np
import torch
from torch import Tensor

from ..common.orders import permutation


def subset(total: int, n: int, seed: int, split: int = 0) -> Tensor:
    """n of 0 to total - 1 at random, at most all, ascending: (n,) int64. Splits are independent draws."""
    return torch.from_numpy(np.sort(permutation(total, seed, split)[:n]))


def outside(index: Tensor, total: int) -> Tensor:
    """Those of 0 to total - 1 that are not in index, ascending."""
    kept = torch.ones(total, dtype=torch.bool, device="cpu")
    kept[index] = False
    return kept.nonzero().flatten()
