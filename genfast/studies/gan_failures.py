"""How does a GAN fail, and which number sees it? Three generators of a ring of 8 Gaussians.

A GAN has no likelihood, and its loss does not say how good it is. Two of its failures are of opposite kinds: a
collapsed generator draws good samples of a few modes, a blurred one draws junk between them. Precision, the share of
samples that lie among the data, sees the second; recall, the share of the data that lie among the samples, the first
(Sajjadi et al. 2018, arXiv:1806.00035). Density and coverage (Naeem et al. 2020, arXiv:2002.09797) are of the same
kinds. All three are trained here, with the same networks and steps; only loss and penalties differ:

    good        relativistic pairs with R1 and R2, the defaults
    collapsed   the non-saturating loss without penalty, of Goodfellow et al. 2014
    junk        the defaults, with penalties so heavy that the discriminator cannot tell a mode from its neighbourhood
"""

import math
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import genfast as gf
from genfast import ops

from .finding import Claim, Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RING = torch.tensor([(math.cos(i * math.pi / 4), math.sin(i * math.pi / 4)) for i in range(8)])
SD = 0.05
SETTINGS = {
    "good": {},
    "collapsed": {"loss": "non_saturating", "r1": 0.0, "r2": 0.0},
    "junk": {"r1": 20.0, "r2": 20.0},
}
NUMBERS = ("precision", "recall", "density", "coverage")


def points(centres: Tensor, n: int, sd: float = SD, seed: int = 0) -> Tensor:
    """(n, 2): Gaussians about centres (K, 2), each as likely."""
    key = ops.make_key(seed, range(n))
    mode = (len(centres) * ops.uniform(key, (), ops.Purpose.TIME)).long()
    return centres[mode] + sd * ops.normal(key, (2,), ops.Purpose.PRIOR)


def networks(seed: int, fourier: int = 32) -> dict[str, torch.nn.Module | int]:
    """Generator, discriminator and latent of a GAN of points, 64 wide."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = gf.nn.FeedForward(2, 2, width=64, depth=3, act="relu")
        discriminator = gf.nn.FeedForward(2, 1, width=64, depth=2, fourier=fourier)
    return {"generator": generator, "discriminator": discriminator, "latent": 2}


def near(x: Tensor, centres: Tensor, sd: float = SD) -> tuple[Tensor, float]:
    """Samples of each mode over its due, (K,), and the share of samples, within 3 sd of a centre. x: (N, 2)."""
    distance, mode = torch.cdist(x, centres).min(1)
    close = distance < 3 * sd
    counts = torch.bincount(mode[close], minlength=len(centres))
    return counts * len(centres) / len(x), close.double().mean().item()
