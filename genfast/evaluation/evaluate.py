"""evaluate(): draw, extract, measure, report."""

import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from ..common import processes
from ..common.checks import require_bool, require_integer, require_number, shown
from ..common.files import writable_folder
from ..common.keys import MAX_SEED
from ..common.versions import versions
from ..data.dataset import Data
from ..data.matching import in_units, require_alike
from ..features import Features, as_features, extract
from .chunks import stream
from .inputs import Extracted, Inputs
from .labels import by_class
from .likelihoods import check_options, likelihoods
from .measure import GROUPS, choose, measure
from .model_traits import device_of
from .pictures import refuse_strangers, remove_pictures, save_pictures
from .reading import Reader
from .records import Record
from .report import Report
from .sources import Held, Source, as_source, comparable, opened


def evaluate(
    model,
    data,
    *,
    metrics: str | Sequence[str] | None = None,
    n: int | None = None,
    features: str | Features | torch.nn.Module | None = None,
    seed: int = 0,
    train=None,
    sampling: dict | None = None,
    likelihood: dict | None = None,
    per_class: bool | None = None,
    out: str | Path | None = None,
    level: float = 0.95,
    progress: bool = True,
) -> Report:
    """Samples held against real data: every number with an interval, and with what real data are given in their place.

    model      anything with `sample(n, seed=...)`, its checkpoint's folder, or samples: a tensor or array (N, *), Data,
               a pair (x, label), a dataset, the path of a file or of a folder of images. A model with classes is asked
               for the labels of the data in a random order, by their names where both have names, and one that takes
               conditions for theirs, and draws in the units in which the data were given, standardized or not
    data       the real samples, in any of these forms: a split that the model was not trained on
    metrics    names in METRICS or "quality"; by default all that apply, and the report says why others do not. One that
               was asked for and does not apply is an error
    n          how many samples; as many as there are real ones, or all that were given
    features   what samples are compared in: Features, their name, a Module; see `features.as_features`
    seed       of samples, splits and probes
    train      the training data: for memorization, and for the baseline, which then is training data against data
    sampling   settings of `model.sample`: solver, steps, guidance, clamp, ...
    likelihood settings of the likelihood of the data: see `likelihoods.likelihoods`
    per_class  whether to tell classes apart; by default where samples and data have labels, and quality is asked for
    out        folder for report.json, samples.png, memorization.png and report.png
    level      of the intervals
    progress   whether to show a bar
    The baselines take four more runs of every metric, on parts of the data a quarter of the work each.
    The same call gives the same report. Under torchrun, or with torch.distributed started, each process draws its share
    of samples and likelihoods, all of them answer with the report of the whole, and the first one writes `out`; where
    one fails, all do.
    Raises ValueError or TypeError that names the argument, also for labels that are no classes of the model; before any
    work, OSError if nothing can be written to `out`, FileExistsError if files of others have the names of those there.
    """
    names = choose(metrics)
    n = None if n is None else require_integer("n", n, 2)
    seed = require_integer("seed", seed, 0, MAX_SEED)
    level = require_number("level", level, above=0, below=1)
    sampling, likelihood = _settings("sampling", sampling), _settings("likelihood", likelihood)
    per_class = None if per_class is None else require_bool("per_class", per_class)
    progress = require_bool("progress", progress) and processes.world()[0] == 0
    folder = _tried(out)
    data_name, data, train, source = _read(model, data, train, n=n, seed=seed, settings=sampling)
    features = as_features(features, data.shape)
    check_options(source.model, source.told, likelihood)
    processes.together(lambda: None if folder is None else refuse_strangers(folder, data.shape))

    extracted = functools.partial(_extracted, features, device=device_of(source.model, data), progress=progress)
    inputs = Inputs(
        of_samples=extracted(source, "samples"),
        of_real=extracted(Held(data_name, data), "data"),
        of_train=None if train is None else extracted(Held("train", train), "training data"),
        ask_likelihoods=lambda: likelihoods(source.model, source.told, likelihood, seed=seed, progress=progress),
        dims=math.prod(data.shape),
    )
    records, left_out = measure(names, inputs, required=metrics is not None, seed=seed, level=level, progress=progress)
    classes = ()
    if _by_class(per_class, names, source, data):
        agreement, classes = by_class(inputs, source.label, data.label, data.classes, seed=seed, level=level)
        records = (*records, agreement)
    report = Report(
        model={"name": source.name, "fingerprint": source.fingerprint},
        data={"name": data_name, **_described(data)},
        features={"name": features.name, "dim": features.dim, "fingerprint": features.fingerprint},
        n=source.n, m=len(data), seed=seed, level=level, sampling=_plain(source.stated),
        **versions(),
        records=records, per_class=classes, left_out=left_out,
        warnings=(*source.seen.warnings(), *_warnings(records)),
    )  # fmt: skip
    if folder is not None:
        remove_pictures(folder)
        report.save(folder / "report.json")
        copies = inputs.memorization if "memorization" in report else None
        save_pictures(folder, report, source, train, copies)
    return report


def _tried(out: str | Path | None) -> Path | None:
    """The folder `out` in the process that writes, None elsewhere; if it cannot be written to, an error in all."""
    writes = out is not None and processes.world()[0] == 0
    return processes.together(lambda: writable_folder("out", out) if writes else None)


def _read(model, data, train, **options) -> tuple[str, Data, Data | None, Source]:
    """The data and their name, the training data and the samples."""
    reader, model = Reader(), opened(model)
    real = reader.read(data, "data")
    data = comparable(real.data, model)
    train = None if train is None else _other(in_units(reader.read(train, "train").data, data.units), data)
    return real.name, data, train, as_source(model, data, reader, **options)


def _settings(name: str, value: dict | None) -> dict:
    if not isinstance(value, dict | None) or not all(isinstance(key, str) for key in value or ()):
        raise TypeError(f"{name} must be a dict of settings by their names; got {shown(value)}")
    return value or {}


def _extracted(features: Features, source: Source, what: str, **options) -> Extracted:
    make = functools.partial(stream, source, lambda x: extract(features, x), what=what, **options)
    return Extracted(source.n, make, getattr(features, "classify", None))


def _other(train: Data, data: Data) -> Data:
    """The training data, if they can be that; their labels play no part."""
    require_alike(train, data, "train")
    if torch.equal(train.glance(), data.glance()):
        raise ValueError("train must be other samples than data, which are held out; got the same")
    return train


def _described(data: Data) -> dict:
    """Shape, classes and their names, and the beginning of their fingerprint."""
    said = data.fingerprint()
    return {name: said[name] for name in ("shape", "classes", "names")} | {"fingerprint": said["sha256"][:16]}


def _by_class(per_class: bool | None, names: Sequence[str], source: Source, data: Data) -> bool:
    samples, real = (0 if side.label is None else int((side.label >= 0).sum()) for side in (source, data))
    there = samples > 0 and real > 1
    if per_class and not there:
        which = "the data" if samples else "the samples"
        raise ValueError(f"per_class must be False or None, for {which} have no labels, or a single one; got True")
    return there and bool(set(names) & set(GROUPS["quality"])) if per_class is None else per_class


def _plain(settings: dict) -> dict:
    """Settings as JSON has them; what it cannot hold by its type."""
    plain = {}
    for name, value in settings.items():
        try:
            plain[name] = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            plain[name] = type(value).__name__
    return plain


def _warnings(records: Sequence[Record]) -> tuple[str, ...]:
    """Those of the numbers, once each, after the names of those that they are about."""
    about = {}
    for record in records:
        for warning in record.estimate.warnings:
            about.setdefault(warning, []).append(record.name)
    return tuple(f"{', '.join(names)}: {warning}" for warning, names in about.items())
