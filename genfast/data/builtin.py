"""Data that come with a package: nothing is downloaded."""

import functools

import torch

from ..common.checks import require_choice, require_number
from .dataset import Data, permutation


@functools.cache
def _all_digits():
    """x and label of all digits, read once in a process."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits come with scikit-learn: pip install genfast[demo]") from error
    source = load_digits()
    x = torch.tensor(
        source.images[:, None] / 8 - 1, dtype=torch.float32, device="cpu"
    )  # gray levels 0..16, exact in float32
    return x, torch.tensor(source.target, dtype=torch.int64, device="cpu")


def digits(split=None, fraction=0.25):
    """The 1,797 handwritten digits of scikit-learn: x (N, 1, 8, 8) in [-1, 1], of 17 levels, label 0 to 9 (Alpaydin &
    Kaynak 1998).

    split      None for all of them, "train" or "test": a fixed split with the share `fraction` of every class in "test"
    Needs scikit-learn, which carries the images: nothing is downloaded.
    """
    split = require_choice("split", split, (None, "train", "test"))
    fraction = require_number("fraction", fraction, above=0, below=1)
    x, label = (column.clone() for column in _all_digits())
    if split is None:
        return Data(x, label, classes=10, levels=17)
    order = torch.from_numpy(permutation(len(x), seed=0, epoch=0))
    test = torch.zeros(len(x), dtype=torch.bool, device="cpu")
    for digit in range(10):
        members = order[label[order] == digit]
        test[members[: round(fraction * len(members))]] = True
    chosen = test if split == "test" else ~test
    return Data(x[chosen], label[chosen], classes=10, levels=17)
