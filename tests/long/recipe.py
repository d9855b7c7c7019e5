"""The default recipe against a cosine schedule that predicts v, over three seeds.

    python tests/long/recipe.py [--data digits | emoji]

Both train by the same `fit`, lr 3e-3, one thread.
digits  8x8, and these times 4: 150 steps of 128. A support-vector classifier of the real digits says of how many of
        1,797 samples the label is the one asked for; the Frechet distance is of pixels in [0, 1].
emoji   16x16, in color, of the five largest classes: 400 steps of 64. `features.classifier` of those that are trained
        on says it, of as many samples of each class as are held out; the Frechet distance to these is in its features.
Exits with 1 unless, in the mean over the seeds and at each scale, the default's agreement is at most 0.01 below (of
emoji 0.04), and its distance is lower.
"""

import statistics
import sys
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

import genfast as gf
from genfast.features.base import extract
from genfast.studies import digits

RECIPES = {"default": {}, "vp_cosine, v": {"schedule": "vp_cosine", "parameterization": "v"}}


class Result(NamedTuple):
    """agreement: share of samples that the judge calls by their label.  frechet: to the real data."""

    agreement: float
    frechet: float


class Task(NamedTuple):
    """data: to train on.  label: of the samples.  judged: what samples of these labels are worth.  network, settings:
    of the U-Net and of `fit`.  near: what agreement may be lost.  scales: what the data are multiplied by."""

    data: gf.data.Data
    label: Tensor
    judged: Callable[[Tensor], Result]
    network: dict
    settings: dict
    near: float
    scales: tuple[float, ...]


def of_digits(n: int = 1797) -> Task:
    """n: how many samples."""
    data = gf.data.digits()
    real, label = digits.pixels(data.x), data.label[:n]

    def judged(x: Tensor) -> Result:
        samples = digits.pixels(x)
        agreement = digits.judge(samples, label.numpy(), real, data.label.numpy())["label_agreement"]
        return Result(agreement, gf.metrics.frechet(torch.from_numpy(samples), torch.from_numpy(real)).value)

    return Task(data, label, judged, {"multipliers": (1, 3)}, {"steps": 150, "batch": 128}, 0.01, (1.0, 4.0))


def of_emoji() -> Task:
    train, test = (gf.data.emoji(16, split) for split in ("train", "test"))
    largest = train.label.bincount().topk(5).indices.sort().values
    train, test = (_of_classes(data, largest) for data in (train, test))
    judge = gf.features.classifier(train.x, train.label, seed=0, steps=400)
    real = extract(judge, test.x)
    right = (judge.classify(real).argmax(1) == test.label).double().mean()
    print(f"{', '.join(train.names)}: {len(train)} emoji; the judge is right about {right:.3f} of {len(test)} others")

    def judged(x: Tensor) -> Result:
        samples = extract(judge, x)
        agreement = (judge.classify(samples).argmax(1) == test.label).double().mean().item()
        return Result(agreement, gf.metrics.frechet(samples, real).value)

    return Task(train, test.label, judged, {"multipliers": (1, 2)}, {"steps": 400, "batch": 64}, 0.04, (1.0,))


def _of_classes(data: gf.data.Data, classes: Tensor) -> gf.data.Data:
    """The data of these classes alone, numbered anew."""
    chosen = torch.isin(data.label, classes)
    label = torch.searchsorted(classes, data.label[chosen])
    return gf.data.arrays(data.x[chosen], label, names=[data.names[k] for k in classes])


def run(recipe: str, task: Task, scale: float = 1.0, seed: int = 0, steps: int | None = None, **network) -> Result:
    """One model, trained on data times `scale`; its samples, divided by that, are judged."""
    data, settings = task.data, task.settings | ({} if steps is None else {"steps": steps})
    torch.manual_seed(seed)
    net = gf.nn.UNet(channels=data.shape[0], classes=data.classes, **{"width": 16} | task.network | network)
    model = gf.Diffusion(net, **RECIPES[recipe])
    gf.fit(model, (scale * data.x, data.label), lr=3e-3, seed=seed, progress=False, **settings)
    return task.judged(model.sample(len(task.label), label=task.label, seed=seed, progress=False) / scale)


def holds(ours: list[Result], others: list[Result], near: float) -> bool:
    """Whether the mean agreement is near, and the mean distance lower."""
    (agreement, frechet), (other, distance) = (map(statistics.mean, zip(*runs)) for runs in (ours, others))
    return agreement >= other - near and frechet < distance


def shown(values: tuple[float, ...]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} +- {spread:.3f}"


def main(
    data: Annotated[Literal["digits", "emoji"], tyro.conf.arg(help="What is learned.")] = "digits",
    seeds: Annotated[int, tyro.conf.arg(help="How many seeds, from 0 on.")] = 3,
    steps: Annotated[int | None, tyro.conf.arg(help="Training steps, if others than above.")] = None,
) -> None:
    """Compare the default recipe with a cosine schedule on real data, over seeds and scales."""
    torch.set_num_threads(1)
    task = {"digits": of_digits, "emoji": of_emoji}[data]()
    runs = {(scale, recipe): [] for scale in task.scales for recipe in RECIPES}
    with tqdm(total=seeds * len(runs), unit="run") as bar:
        for seed in range(seeds):
            for (scale, recipe), results in runs.items():
                bar.set_postfix_str(f"{recipe}, x {scale:g}, seed {seed}")
                results.append(run(recipe, task, scale, seed, steps))
                bar.write(
                    f"{recipe}, x {scale:g}, seed {seed}: agreement {results[-1][0]:.3f}, distance {results[-1][1]:.3f}"
                )
                bar.update()
    print(f"\n{'scale':>6}  {'recipe':14}{'label agreement':>18}{'Frechet distance':>20}")
    for (scale, recipe), results in runs.items():
        columns = map(shown, zip(*results))
        print(f"{scale:6g}  {recipe:14}{next(columns):>18}{next(columns):>20}")
    kept = {scale: holds(*(runs[scale, recipe] for recipe in RECIPES), task.near) for scale in task.scales}
    print("", *(f"scale {scale:g}: {'holds' if good else 'DOES NOT HOLD'}" for scale, good in kept.items()), sep="\n")
    sys.exit(not all(kept.values()))


if __name__ == "__main__":
    tyro.cli(main)
