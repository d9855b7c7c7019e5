"""The units of data: a model of standardized data answers in those in which the data were.

    x = mean + sd u,    log p(x) = log p(u) - sum_i log sd_i

with x in the data's units and u what networks see. Data are standardized where they are read (data/dataset.py), and a
model takes their units from the first that it is trained on (`measured.learn`), or None, which changes nothing.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .checks import as_tensor, shown


class Units:
    """mean and sd of each feature, or of each channel, which is the first axis of a sample: sequences of numbers, sd
    above 0. Raises ValueError or TypeError for others."""

    def __init__(self, mean: Sequence[float], sd: Sequence[float]):
        numbers = {name: as_tensor(name, value, torch.float64).cpu() for name, value in (("mean", mean), ("sd", sd))}
        for name, value in numbers.items():
            if value.ndim != 1 or not len(value) or not bool(value.isfinite().all()):
                raise ValueError(
                    f"{name} must be finite numbers, one a feature or channel; got {shown(value.tolist())}"
                )
        self.mean, self.sd = numbers.values()
        if len(self.mean) != len(self.sd) or not bool((self.sd > 0).all()):
            raise ValueError(f"sd must be {len(self.mean)} numbers above 0, as many as mean; got {shown(list(sd))}")

    def require(self, shape: Sequence[int]) -> None:
        """ValueError unless there is one of them for each feature, or channel, of a sample of this shape."""
        if not shape or shape[0] != len(self.mean):
            got = shape[0] if shape else 0
            raise ValueError(f"units must be of {got} features or channels, as x is; got {len(self.mean)}")

    def standardized(self, x: Tensor) -> Tensor:
        """(x - mean) / sd of x: (B, *), in its dtype, computed in float64; differentiable."""
        mean, sd = self._rows(x)
        return ((x.double() - mean) / sd).to(x.dtype)

    def original(self, u: Tensor) -> Tensor:
        """mean + sd u of u: (B, *), in its dtype, computed in float64; differentiable."""
        mean, sd = self._rows(u)
        return (mean + sd * u.double()).to(u.dtype)

    def log_volume(self, shape: Sequence[int]) -> float:
        """sum_i log sd_i over all numbers of a sample of this shape, nats."""
        self.require(shape)
        return float(self.sd.log().sum()) * math.prod(shape[1:])

    def described(self) -> dict[str, list[float]]:
        """Both, for JSON; `Units(**described)` are they again."""
        return {"mean": self.mean.tolist(), "sd": self.sd.tolist()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Units) and self.described() == other.described()

    def __hash__(self) -> int:
        return hash((*self.mean.tolist(), *self.sd.tolist()))

    def __repr__(self) -> str:
        return f"Units(mean={shown(self.mean.tolist())}, sd={shown(self.sd.tolist())})"

    def _rows(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """mean and sd, to be broadcast against x: (B, *)."""
        self.require(x.shape[1:])
        return tuple(value.to(x.device).view(-1, *[1] * (x.ndim - 2)) for value in (self.mean, self.sd))


def as_units(value: Units | Mapping | None) -> Units | None:
    """The argument `units`: Units, None, or what `described` answers with. Raises TypeError for anything else."""
    if value is None or isinstance(value, Units):
        return value
    if isinstance(value, Mapping) and value.keys() == {"mean", "sd"}:
        return Units(**value)
    raise TypeError(f"units must be Units, a dict of mean and sd, or None; got {shown(value)}")


def described(units: Units | None) -> dict[str, list[float]] | None:
    """Units, or None, for JSON."""
    return None if units is None else units.described()


def standardized(units: Units | None, x: Tensor) -> Tensor:
    """x, (B, *), in the data's units, as a network sees it."""
    return x if units is None else units.standardized(x)


def original(units: Units | None, u: Tensor) -> Tensor:
    """What a network sees, (B, *), in the data's units."""
    return u if units is None else units.original(u)


def density(units: Units | None, nats: Tensor, shape: Sequence[int]) -> Tensor:
    """log p(x), in the data's units, from log p(u) of samples of this shape."""
    return nats if units is None else nats - units.log_volume(shape)
