"""The default recipe against a cosine schedule that predicts v: three seeds on real digits, and on digits times 4.

    python tests/long/recipe.py

Both train by the same `fit`: 150 steps of 128, lr 3e-3, one thread. A support-vector classifier of the real digits says
of how many of 1,797 samples the label is the one asked for; the Frechet distance is of pixels in [0, 1]. Exits with 1
unless, in the mean over the seeds and at either scale, the default's agreement is at most 0.01 below, and its distance
is lower.
"""

import statistics
import sys
from typing import Annotated, NamedTuple

import torch
import tyro
from tqdm import tqdm

import genfast as gf
from genfast.studies import digits

RECIPES = {"default": {}, "vp_cosine, v": {"schedule": "vp_cosine", "parameterization": "v"}}
NEAR = 0.01  # of agreement


class Result(NamedTuple):
    """agreement: share of samples that the judge calls by their label.  frechet: to the real digits."""

    agreement: float
    frechet: float


def run(recipe: str, scale: float = 1.0, seed: int = 0, steps: int = 150, n: int = 1797, **network) -> Result:
    """One model, trained on digits times `scale`; its samples, divided by that, are judged. n: how many."""
    data = gf.data.digits()
    torch.manual_seed(seed)
    net = gf.nn.UNet(channels=1, classes=10, **{"width": 16, "multipliers": (1, 3)} | network)
    model = gf.Diffusion(net, **RECIPES[recipe])
    gf.fit(model, (scale * data.x, data.label), steps=steps, batch=128, lr=3e-3, seed=seed, progress=False)
    label = data.label[:n]
    x = model.sample(len(label), label=label, seed=seed, progress=False) / scale
    samples, real = digits.pixels(x), digits.pixels(data.x)
    agreement = digits.judge(samples, label.numpy(), real, data.label.numpy())["label_agreement"]
    return Result(agreement, gf.metrics.frechet(torch.from_numpy(samples), torch.from_numpy(real)).value)


def holds(ours: list[Result], others: list[Result]) -> bool:
    """Whether the mean agreement is near, and the mean distance lower."""
    (agreement, frechet), (other, distance) = (map(statistics.mean, zip(*runs)) for runs in (ours, others))
    return agreement >= other - NEAR and frechet < distance


def shown(values: tuple[float, ...]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} +- {spread:.3f}"


def main(
    seeds: Annotated[int, tyro.conf.arg(help="How many seeds, from 0 on.")] = 3,
    steps: Annotated[int, tyro.conf.arg(help="Training steps of 128.")] = 150,
    scales: Annotated[tuple[float, ...], tyro.conf.arg(help="What the digits are multiplied by.")] = (1.0, 4.0),
) -> None:
    """Compare the default recipe with a cosine schedule on real digits, over seeds and scales."""
    torch.set_num_threads(1)
    runs = {(scale, recipe): [] for scale in scales for recipe in RECIPES}
    with tqdm(total=seeds * len(runs), unit="run") as bar:
        for seed in range(seeds):
            for (scale, recipe), results in runs.items():
                bar.set_postfix_str(f"{recipe}, x {scale:g}, seed {seed}")
                results.append(run(recipe, scale, seed, steps))
                bar.update()
    print(f"\n{'scale':>6}  {'recipe':14}{'label agreement':>18}{'Frechet distance':>20}")
    for (scale, recipe), results in runs.items():
        columns = map(shown, zip(*results))
        print(f"{scale:6g}  {recipe:14}{next(columns):>18}{next(columns):>20}")
    kept = {scale: holds(*(runs[scale, recipe] for recipe in RECIPES)) for scale in scales}
    print("", *(f"scale {scale:g}: {'holds' if good else 'DOES NOT HOLD'}" for scale, good in kept.items()), sep="\n")
    sys.exit(not all(kept.values()))


if __name__ == "__main__":
    tyro.cli(main)
