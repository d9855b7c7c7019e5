"""Data in the plane whose every noised density is known: a spiral of Gaussians."""

import math

import torch
from torch import Tensor

import genfast as gf

RADIUS, TURNS = 2.0, 1.25


def spiral(components: int = 24, std: float = 0.1) -> gf.GaussianMixture:
    """Equal Gaussians along r = 2 theta / Theta, Theta = 2.5 pi, at equal steps of theta^2, so that they lie about as
    far from one another inside as outside. components: their number.  std: of each, in every direction."""
    theta = (
        2 * math.pi * TURNS * ((torch.arange(components, dtype=torch.float64, device="cpu") + 0.5) / components).sqrt()
    )
    radius = RADIUS * theta / (2 * math.pi * TURNS)
    means = torch.stack([radius * theta.cos(), radius * theta.sin()], 1)
    equal = torch.ones(components, dtype=torch.float64, device="cpu")
    return gf.GaussianMixture.from_parameters(equal / components, means, std**2 * equal)


def noised(mixture: gf.GaussianMixture, schedule: gf.schedules.Schedule, t: float, n: int, seed: int) -> Tensor:
    """n draws of x_t = alpha(t) x_0 + sigma(t) z: (n, 2) float64, a function of (seed, t) and the mixture."""
    z = gf.ops.normal(gf.ops.make_key(seed, n), (2,), gf.ops.Purpose.KNOWN, dtype=torch.float64)
    return float(schedule.alpha(t)) * mixture.sample(n, seed=seed).double() + float(schedule.sigma(t)) * z
