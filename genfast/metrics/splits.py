"""Random splits of rows, functions of a seed."""

import numpy as np
import torch
from torch import Tensor


def permutation(n: int, seed: int, stream: int) -> Tensor:
    """0 to n - 1 in an order that depends on (n, seed, stream) alone: the ranks of n Philox words, (n,) int64."""
    words = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)).random_raw(n)
    return torch.from_numpy(np.argsort(words, kind="stable"))
