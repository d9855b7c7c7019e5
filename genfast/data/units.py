"""Mean and standard deviation of data."""

from typing import TYPE_CHECKING

import torch

from ..common.units import Units
from ..common.warn import warn_user

if TYPE_CHECKING:
    from .dataset import Data

PART = 2**22  # numbers in float64 at once


def measured(data: "Data") -> Units:
    """Mean and sd of each feature of vectors, and of each channel, the first axis, of all else, over all of the data as
    they are, augmentation aside: in float64, parts of them after each other.

    The sd has the number of samples in its denominator. What is constant keeps its scale, sd = 1, and is named in a
    UserWarning. Raises ValueError where float64 holds no finite sd.
    """
    data = data.replace(units=None)
    columns, size = data.shape[0], max(1, PART // max(1, torch.Size(data.shape).numel()))
    count, mean, squares = 0, torch.zeros(columns, dtype=torch.float64, device="cpu"), 0.0
    low = torch.full((columns,), torch.inf, dtype=torch.float64, device="cpu")
    high = -low
    for index in torch.arange(len(data), device="cpu").split(size):
        x = data.rows(index)["x"].double().cpu().transpose(0, 1).flatten(1)
        here, total = x.mean(1), count + x.shape[1]
        # The sums of two parts: Chan, Golub, LeVeque 1979.
        squares = squares + (x - here[:, None]).square().sum(1) + (here - mean).square() * (count * x.shape[1] / total)
        mean = mean + (here - mean) * (x.shape[1] / total)
        count, low, high = total, torch.minimum(low, x.amin(1)), torch.maximum(high, x.amax(1))
    constant = low == high
    if bool(constant.any()):
        names = data.columns
        which = constant.nonzero().flatten().tolist()
        said = ", ".join(str(number if names is None else names[number]) for number in which[:8])
        what = "features" if len(data.shape) == 1 else "channels"
        warn_user(f"{what} {said}{' and others' * (len(which) > 8)} are constant: they keep their scale, sd = 1")
    sd = (squares / count).sqrt()
    return Units(torch.where(constant, low, mean), torch.where(constant, 1.0, sd))
