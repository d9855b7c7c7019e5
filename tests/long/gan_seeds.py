"""A GAN on points of known modes: a ring of 8 Gaussians and a grid of 25, over five seeds.

Run as a program, on one thread, it prints a line a run: modes found, the share of samples within 3 sd of one, seconds
of the process and the monitor's warnings; then the worst of each kind. With the word "plain" it trains a plain GAN,
with "narrow" modes of sd 0.02.
"""

import sys
import time
import warnings
from typing import NamedTuple

import torch

import genfast as gf
from genfast.studies import gan_failures

STEPS = 6000
CENTERS = {
    "ring": gan_failures.RING,
    "grid": torch.cartesian_prod(torch.arange(-2.0, 3.0), torch.arange(-2.0, 3.0)),
}


class Result(NamedTuple):
    """modes: those with at least a fifth of their due.  share: of samples within 3 sd of a center, 0.989 of the data.
    least, most: samples of a mode over its due.  seconds: of the process."""

    modes: int
    share: float
    least: float
    most: float
    seconds: float
    said: list[str]


def train(kind, seed=0, steps=STEPS, sd=0.05, lr=1e-2, **settings):
    """A run: one setting for both kinds."""
    gan = gan_failures.gan(seed, **settings)
    data = gan_failures.points(CENTERS[kind], 20_000, sd, seed)
    start = time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gf.fit(gan, data, steps=steps, batch=256, lr=lr, seed=seed, progress=False)
    seconds = time.process_time() - start
    due, share = gan_failures.near(gan.sample(10_000, seed=1), CENTERS[kind], sd)
    said = [str(warning.message) for warning in caught if warning.category is RuntimeWarning]
    return Result(int((due >= 0.2).sum()), share, due.min().item(), due.max().item(), seconds, said)


def main(words):
    settings = (gan_failures.PLAIN if "plain" in words else {}) | ({"sd": 0.02} if "narrow" in words else {})
    for kind in CENTERS:
        runs = []
        for seed in range(5):
            runs.append(train(kind, seed, **settings))
            print(
                kind, seed, *(f"{name} {value:.3g}" for name, value in zip(Result._fields, runs[-1][:-1])), flush=True
            )
            print(*(f"    {line}\n" for line in runs[-1].said), sep="", end="", flush=True)
        worst = min(run.modes for run in runs), min(run.share for run in runs), max(run.seconds for run in runs)
        print(f"{kind}: at worst {worst[0]} of {len(CENTERS[kind])} modes, share {worst[1]:.3f}, {worst[2]:.0f} s\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
