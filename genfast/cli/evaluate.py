"""genfast evaluate"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from .errors import usage
from .sampler import require_sampler

if TYPE_CHECKING:
    from ..data import Data


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Settings of model.sample; what is left out is the model's default."""

    solver: str | None = None
    steps: int | None = None
    guidance: float | None = None
    clamp: tuple[float, float] | None = None


def evaluate(
    samples: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SAMPLES")],
    data: Annotated[str, tyro.conf.arg(metavar="DATA")],
    metrics: tuple[str, ...] = (),
    n: int | None = None,
    features: str | None = None,
    train: str | None = None,
    size: int | None = None,
    channels: Literal[1, 3] | None = None,
    layout: Literal["chw", "hwc"] | None = None,
    crop: tuple[int, int] | None = None,
    levels: int | Literal["data"] | None = "data",
    seed: int = 0,
    sampling: Sampling = Sampling(),
    level: float = 0.95,
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Hold samples against real data: every number with an interval and its baseline, and what they mean.

    Exits with 2 if an argument is wrong, with 1 if something else is.

    Args:
        samples: A model's checkpoint folder, a folder of images, or a .npy, .npz or .safetensors file.
        data: The real samples: a folder of images, such a file, or digits, digits:train, digits:test, or emoji alike.
        metrics: Names of metrics, or quality; all that apply by default.
        n: How many samples; by default as many as there are real ones, or all that were given.
        features: pixels, random_conv, classifier (trained on --train, which needs labels then), or inception:FILE with
            Inception's weights.
        train: The training data, as for --data: for memorization and the baselines.
        size: Images of folders, and emoji, are cut and shrunk to squares of so many pixels.
        channels: Images of folders are read as gray (1) or in color (3).
        layout: Where the images of files have their channels, if their shape does not show it.
        crop: Images are cut to this height and width, in the middle.
        levels: Likelihood: the data have so many values, -1 to 1 at equal distances, and are dequantized; by default
            as many as they say. None takes them as they are.
        seed: Of samples and splits.
        sampling: Settings of the model's sampler.
        level: Of the intervals.
        out: Folder for report.json and pictures.
        json: Print the report as JSON instead of the table and its meaning.
    """
    from ..common import processes
    from ..data import load
    from ..evaluation import diagnose
    from ..evaluation import evaluate as run_evaluation

    settings = {name: value for name, value in dataclasses.asdict(sampling).items() if value is not None}
    with usage():
        _check(samples, data, train, metrics, n, features, size, levels, seed, settings, level)
    ours, real, other = (_images(path, size, channels, layout, crop) for path in (samples, data, train))
    if features == "classifier" and isinstance(other, str):
        other = load(other)  # once for both: the classifier learns from the same data
    report = run_evaluation(
        ours, real, metrics=metrics or None, n=n, features=_features(features, other), seed=seed, train=other,
        sampling=settings, likelihood={} if levels == "data" else {"levels": levels}, level=level, out=out,
    )  # fmt: skip
    if processes.world()[0] == 0:
        print(report.json() if json else f"{report}\n\n{diagnose(report)}")


def _check(samples, data, train, metrics, n, features, size, levels, seed, settings, level) -> None:
    """ValueError for an argument that no files could make right."""
    from ..common.checks import require_choice, require_integer, require_number, require_pair
    from ..common.keys import MAX_SEED
    from ..data.files import is_named
    from ..evaluation.measure import choose
    from ..features.choice import NAMED

    choose(metrics or None)
    for name, value, least in (("n", n, 2), ("size", size, 1), ("levels", levels, 2)):
        if value not in (None, "data"):
            require_integer(name, value, least)
    require_integer("seed", seed, 0, MAX_SEED)
    require_number("level", level, above=0, below=1)
    for name, path in (("SAMPLES", samples), ("data", data), ("train", train)):
        if path is not None and is_named(path):
            of = path.partition(":")[0]
            require_choice(name, path, (of, f"{of}:train", f"{of}:test"))
    if features is not None and not features.startswith("inception:"):
        require_choice("features", features, (*NAMED, "classifier", "inception:FILE"))
    if features == "classifier" and train is None:
        raise ValueError("features: a classifier needs --train, labeled data that are not judged with it")
    require_sampler(settings, "sampling.")
    if "clamp" in settings:
        require_pair("sampling.clamp", settings["clamp"], infinite=True)


def _images(
    path: str | None, size: int | None, channels: int | None, layout: str | None, crop: tuple[int, int] | None
) -> "str | Data | None":
    """The images of a folder or file, or data by name, as they are asked for; what nothing is asked of as it is."""
    from ..data import load
    from ..data.files import is_named

    if path is None or (Path(path) / "model.json").exists():
        return path
    asked = {"size": size, "channels": channels} if is_named(path) or Path(path).is_dir() else {}
    asked |= {"layout": layout} if Path(path).is_file() else {}
    if crop is None and all(value is None for value in asked.values()):
        return path
    data = load(path, **asked)
    return data if crop is None else data.augmented(flip=False, crop=crop)


def _features(name: str | None, train: "str | Data | None"):
    """What `evaluate` takes, from the words of the command line; a classifier learns from `train`, which are Data."""
    from ..features import classifier, inception

    if name is not None and name.startswith("inception:"):
        return inception(name.removeprefix("inception:"))
    if name == "classifier":
        return classifier(train.x, train.label, train.classes)
    return name
