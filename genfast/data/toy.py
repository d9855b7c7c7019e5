"""Points in the plane whose density is known: to see at a glance, and to measure, what a model has learned.

All have mean 0 and, averaged over both axes, variance 1. moons, rings, spirals and grid are mixtures of M Gaussians,

    p(x) = 1/M sum_m N(x; c_m, s^2 I)

with centers so close along a curve (less than 0.8 s apart) that p is that of the curve with noise to 1e-13: it is exact
all the same. checkerboard is uniform on 8 of 4 x 4 squares, p = 1/6 there and 0 elsewhere. pinwheel is a mixture of 5
Gaussians, one a wing, twisted by an angle that grows with the radius, which moves no area:

    p(x) = 1/5 sum_k N(R_k^T T^-1(x); (m, 0), diag(s_1^2, s_2^2)),      T(u) = R(|u|) u, R_k = R(2 pi k / 5)
"""

import math

import numpy as np
import torch
from torch import Tensor

from ..common.checks import ROWS, as_tensor, require_choice, require_integer, require_samples
from ..common.keys import MAX_SEED
from .dataset import Data

STREAM = 1 << 63  # second word of the key of NumPy's Philox, in which orders of data have the epoch
CHUNK = 512  # points whose distances to all centers are in memory at a time


def toy(name: str, n: int = 8192, seed: int = 0) -> "ToyData":
    """n points of a distribution in the plane: x (n, 2), with `.log_density(x)`.

    name       moons (2 classes), rings (3), spirals (2), checkerboard (no labels), pinwheel (5) or grid (25)
    seed       in [0, 2**63). A point is a function of it and of its index: a larger n adds points
    """
    name = require_choice("name", name, TOYS)
    return ToyData(name, require_integer("n", n, 1, ROWS), require_integer("seed", seed, 0, MAX_SEED))


class ToyData(Data):
    """Data that know the distribution which they are drawn from."""

    def __init__(self, name: str, n: int, seed: int):
        self.distribution = TOYS[name]()
        words = np.random.Philox(key=np.array([seed, STREAM], dtype=np.uint64)).random_raw(4 * n)
        uniform = ((words.reshape(n, 4) >> 11) + 0.5) * 2.0**-53
        x, label = self.distribution.draw(uniform)
        super().__init__(x.astype(np.float32), label, self.distribution.classes)

    def log_density(self, x: Tensor) -> Tensor:
        """log p(x), (N,) float64, in nats, of points x: (N, 2); -inf where there are none. Equation: see `data.toy`."""
        x = require_samples("x", as_tensor("x", x), (2,)).double()
        parts = [self.distribution.log_density(part) for part in x.split(CHUNK)]
        return torch.cat(parts) if parts else x.new_zeros(0)


class _Mixture:
    """Gaussians of one width around centers, moved and scaled together so that mean and variance are 0 and 1."""

    def __init__(self, parts: list[np.ndarray], std: float):
        """parts: the centers of each class, (M_k, 2)."""
        centers = np.concatenate(parts)
        centers = centers - centers.mean(0)
        self.centers = centers * math.sqrt((1 - std**2) / (centers**2).mean())
        self.label = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        self.std, self.classes = std, len(parts)

    def draw(self, uniform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        which = (uniform[:, 0] * len(self.centers)).astype(np.int64)
        return self.centers[which] + self.std * _normal(uniform), self.label[which]

    def log_density(self, x: Tensor) -> Tensor:
        squares = torch.cdist(x, torch.from_numpy(self.centers).to(x.device)).square()
        return (squares / (-2 * self.std**2)).logsumexp(1) - math.log(2 * math.pi * self.std**2 * len(self.centers))


class _Checkerboard:
    classes, half, squares = 0, math.sqrt(3), 4

    def draw(self, uniform: np.ndarray) -> tuple[np.ndarray, None]:
        which = (uniform[:, 0] * self.squares**2 / 2).astype(np.int64)
        row = which // (self.squares // 2)
        corner = np.stack([2 * which % self.squares + row % 2, row], 1)
        return ((corner + uniform[:, 2:]) / self.squares * 2 - 1) * self.half, None

    def log_density(self, x: Tensor) -> Tensor:
        place = ((x / self.half + 1) / 2 * self.squares).floor()
        inside = ((place >= 0) & (place < self.squares)).all(1) & (place.sum(1) % 2 == 0)
        found = inside.to(x.dtype).log() - math.log(2 * self.half**2)
        return torch.where(x.isnan().any(1), torch.nan, found)


class _Pinwheel:
    classes, std = 5, (0.35, 0.08)
    mean = math.sqrt(2 - 0.35**2 - 0.08**2)

    def draw(self, uniform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        wing = (uniform[:, 0] * self.classes).astype(np.int64)
        u = _normal(uniform) * self.std + (self.mean, 0.0)
        angle = 2 * math.pi / self.classes * wing + np.hypot(*u.T)
        cos, sin = np.cos(angle), np.sin(angle)
        return np.stack([cos * u[:, 0] - sin * u[:, 1], sin * u[:, 0] + cos * u[:, 1]], 1), wing

    def log_density(self, x: Tensor) -> Tensor:
        radius = x.square().sum(1, keepdim=True).sqrt()
        wings = 2 * math.pi / self.classes * torch.arange(self.classes, dtype=x.dtype, device=x.device)
        angle = torch.atan2(x[:, 1:], x[:, :1]) - radius - wings
        first = (radius * angle.cos() - self.mean) / self.std[0]
        second = radius * angle.sin() / self.std[1]
        exponents = -(first.square() + second.square()) / 2
        return exponents.logsumexp(1) - math.log(2 * math.pi * math.prod(self.std) * self.classes)


def _normal(uniform: np.ndarray) -> np.ndarray:
    """(n, 2) normals of the last two columns, by Box and Muller."""
    radius, angle = np.sqrt(-2 * np.log(uniform[:, 2])), 2 * math.pi * uniform[:, 3]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def _middles(count: int) -> np.ndarray:
    return (np.arange(count) + 0.5) / count


def _polar(radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def _moons() -> _Mixture:
    """Two half circles of radius 1; the second, turned around, begins in the middle of the first."""
    upper = _polar(1.0, np.pi * _middles(64))
    return _Mixture([upper, (1.0, 0.5) - upper], 0.1)


def _rings() -> _Mixture:
    """Three circles, radii 1 : 2 : 3, equally dense along their lengths."""
    return _Mixture([_polar(k, 2 * np.pi * _middles(64 * k)) for k in (1, 2, 3)], 0.08)


def _spirals() -> _Mixture:
    """Two arms of a spiral whose radius is its angle, up to one and a half turns, equally dense along them."""
    angle = 3 * np.pi * np.sqrt(_middles(256))
    return _Mixture([_polar(angle, angle), _polar(-angle, angle)], 0.08)


def _grid() -> _Mixture:
    """5 x 5 Gaussians, a class each."""
    return _Mixture([np.array([[i, j]], dtype=np.float64) for j in range(-2, 3) for i in range(-2, 3)], 0.1)


TOYS = {
    "moons": _moons, "rings": _rings, "spirals": _spirals, "checkerboard": _Checkerboard, "pinwheel": _Pinwheel,
    "grid": _grid,
}  # fmt: skip
