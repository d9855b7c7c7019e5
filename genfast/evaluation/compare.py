"""Several models side by side: by likelihood, by samples, and whether the two agree."""

import dataclasses
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence, Set

from ..common.files import to_json
from .evaluate import evaluate
from .reading import Reader
from .records import Record, has_interval
from .report import Report
from .table import aligned, estimate_text

LIKELIHOOD = ("nats",)  # what ranks by likelihood
LIKELIHOODS = ("nats", "bits_per_dim", "elbo")  # what is in a unit of its own
MARKS = ("dequantized from", "of probabilities")  # in the method of a likelihood, where its unit begins
QUALITY = ("frechet", "kernel_distance", "coverage")  # by samples: the first that all have with an interval


@dataclasses.dataclass(frozen=True)
class Ranking:
    """metric: by which.  tiers: names of models from the best on; one tier cannot be told apart from its first model,
    for the intervals overlap."""

    metric: str
    tiers: tuple[tuple[str, ...], ...]

    def place(self, name: str) -> int:
        """0 for the best tier."""
        return next(place for place, tier in enumerate(self.tiers) if name in tier)

    def __str__(self) -> str:
        return ", then ".join(" and ".join(tier) + (" (a tie)" if len(tier) > 1 else "") for tier in self.tiers)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The reports by name, their rankings by likelihood and by sample quality (None where a model lacks the number),
    and what follows, in sentences. Prints as a table, the sentences, and the warnings of the reports."""

    reports: dict[str, Report]
    likelihood: Ranking | None
    quality: Ranking | None
    sentences: tuple[str, ...]

    def __str__(self) -> str:
        names = list(dict.fromkeys(record.name for report in self.reports.values() for record in report.records))
        rows = [("metric", *self.reports)]
        for name in names:
            rows.append((name, *(_cell(report, name) for report in self.reports.values())))
        first = next(iter(self.reports.values()))
        about = (
            f"{first.n} samples against {first.m} of {first.data['name']}, features {first.features['name']}, "
            f"{first.level:.0%} intervals"
        )
        notes = [f"note: {name}: {warning}" for name, report in self.reports.items() for warning in report.warnings]
        return "\n".join([about, "", *aligned(rows), "", *self.sentences, *notes])

    def json(self) -> str:
        """Rankings, sentences, and the whole reports by name."""
        rank = {
            key: None if value is None else dataclasses.asdict(value)
            for key, value in (("likelihood", self.likelihood), ("quality", self.quality))
        }
        reports = {name: json.loads(report.json()) for name, report in self.reports.items()}
        return to_json({**rank, "sentences": self.sentences, "reports": reports}, indent=1)


def compare(models: Sequence, data=None, **options) -> Comparison:
    """Models side by side on the same data, at the same n, in the same features.

    models: at least two, each a Report, a pair (name, Report), or a pair (name, model) to be evaluated on `data` with
    the options of `evaluate`. A Report stands under the name of its model.
    Ranked by likelihood ("nats") and by samples: the Frechet distance or, where one has none, the kernel distance or
    coverage; a Frechet distance of so few samples that it has no interval is none. Likelihoods are ranked only if all
    are densities of the data as they are, all of data dequantized from as many levels, or all probabilities; one of
    -infinity is last. Overlapping intervals are a tie, which is cautious: two that just touch would differ at their
    level. The sentences say which models have the better likelihood and the worse samples, and when nothing can be told
    apart, by any number that all reports have; if all rankings are ties, by which other numbers models can be.
    Raises ValueError if two reports differ in data, n, features or level, TypeError for anything else in `models`.
    """
    other = isinstance(models, str | Mapping | Set) or not getattr(models, "ndim", 1)
    if other or not isinstance(models, Iterable):
        raise TypeError(f"models must be a sequence of Reports or pairs; got {type(models).__name__}")
    named = {}
    for item in models:
        pair = isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
        name, value = item if pair else (None, item)
        if not isinstance(value, Report) and (name is None or data is None):
            forms = "Reports, pairs (name, Report), or pairs (name, model) with data="
            raise TypeError(f"models must be {forms}; got {type(value).__name__}, data={type(data).__name__}")
        name = value.model["name"] if name is None else name
        if name in named:
            raise ValueError(f"models must have different names; got {name!r} twice: pass (name, report)")
        named[name] = value
    if not all(isinstance(value, Report) for value in named.values()):
        reader = Reader()  # for all of the models
        data = reader.read(data, "data")
        if options.get("train") is not None:
            options["train"] = reader.read(options["train"], "train")
    reports = {
        name: value if isinstance(value, Report) else evaluate(value, data, **options) for name, value in named.items()
    }
    _require_comparable(reports)
    quality = _ranking(reports, QUALITY)
    likelihood = None if len(set(_units(reports).values())) > 1 else _ranking(reports, LIKELIHOOD)
    return Comparison(reports, likelihood, quality, tuple(_sentences(reports, likelihood, quality)))


def _require_comparable(reports: dict[str, Report]) -> None:
    if len(reports) < 2:
        raise ValueError(f"models must be at least two; got {len(reports)}")
    (first, one), *others = reports.items()
    for name, other in others:
        for what, a, b in (
            ("features", one.features, other.features),
            ("data", one.data["fingerprint"], other.data["fingerprint"]),
            ("n", one.n, other.n),
            ("level", one.level, other.level),
        ):
            if a != b:
                raise ValueError(f"models must have the same {what}; got {a} of {first} and {b} of {name}")


def _usable(report: Report, name: str) -> bool:
    """Whether it can be ranked by: a likelihood of -infinity can, a distance without an interval says nothing."""
    return name in report and (name in LIKELIHOOD or has_interval(report[name].estimate))


def _units(reports: dict[str, Report]) -> dict[str, str]:
    """Of the likelihoods that there are: densities of the data as they are, or dequantized from how many levels, or
    probabilities."""
    kinds = {name: report["nats"].estimate.method.split(";")[0] for name, report in reports.items() if "nats" in report}
    return {
        name: next((kind[kind.find(mark) :] for mark in MARKS if mark in kind), "not dequantized")
        for name, kind in kinds.items()
    }


def _ranking(reports: dict[str, Report], names: Sequence[str]) -> Ranking | None:
    """By the first of these numbers that every report has."""
    shared = [name for name in names if all(_usable(report, name) for report in reports.values())]
    if not shared:
        return None
    records = {name: report[shared[0]] for name, report in reports.items()}
    sign = 1 if next(iter(records.values())).better == "lower" else -1
    tiers = []
    for name in sorted(records, key=lambda name: sign * records[name].center):
        if tiers and _overlap(records[tiers[-1][0]], records[name]):
            tiers[-1].append(name)
        else:
            tiers.append([name])
    return Ranking(shared[0], tuple(map(tuple, tiers)))


def _overlap(one: Record, other: Record) -> bool:
    return one.estimate.low <= other.estimate.high and other.estimate.low <= one.estimate.high


def _apart(reports: dict[str, Report]) -> list[str]:
    """The numbers of which two reports have intervals that do not overlap, in one unit."""
    shared = [record.name for record in next(iter(reports.values())).records]
    shared = [name for name in shared if all(_usable(report, name) for report in reports.values())]
    if len(set(_units(reports).values())) > 1:
        shared = [name for name in shared if name not in LIKELIHOODS]
    pairs = [*itertools.combinations(reports.values(), 2)]
    return [
        name.replace("_", " ") for name in shared if not all(_overlap(one[name], other[name]) for one, other in pairs)
    ]


def _sentences(reports: dict[str, Report], likelihood: Ranking | None, quality: Ranking | None) -> list[str]:
    sentences = []
    units = _units(reports)
    for what, ranking in (("likelihood", likelihood), ("samples", quality)):
        if what == "likelihood" and len(set(units.values())) > 1:
            named = ", ".join(f"{name} {unit}" for name, unit in units.items())
            sentences.append(f"By likelihood: no ranking, their units are different: {named}.")
        elif ranking is None:
            lacking = LIKELIHOOD if what == "likelihood" else QUALITY
            lacks = [name for name, report in reports.items() if not any(_usable(report, key) for key in lacking)]
            whose = " and ".join(lacks) or "the models, taken together,"
            sentences.append(f"By {what}: no ranking, {whose} {'has' if len(lacks) == 1 else 'have'} none.")
        else:
            sentences.append(f"By {what} ({ranking.metric.replace('_', ' ')}): {ranking}.")
    if likelihood is not None:
        sentences += _bounds(reports)
    ranked = [ranking for ranking in (likelihood, quality) if ranking is not None]
    if ranked and all(len(ranking.tiers) == 1 for ranking in ranked):
        n, names = next(iter(reports.values())).n, _apart(reports)
        if names:
            sentences.append(f"The rankings are ties, but models can be told apart by {', '.join(names)}.")
        else:
            sentences.append(f"Nothing can be told apart at n = {n}: all intervals overlap. Take more samples.")
    if len(ranked) == 2:
        sentences += _disagreements(reports, likelihood, quality)
    return sentences


def _bounds(reports: dict[str, Report]) -> list[str]:
    """A bound is no likelihood: what it says of a model is at best too little."""
    kinds = {name: report["nats"].estimate.method.split(";")[0] for name, report in reports.items()}
    if len(set(kinds.values())) < 2:
        return []
    return [f"The likelihoods are of different kinds: {', '.join(f'{name} {kind}' for name, kind in kinds.items())}."]


def _disagreements(reports: dict[str, Report], likelihood: Ranking, quality: Ranking) -> list[str]:
    sentences = []
    for a in reports:
        for b in reports:
            if likelihood.place(a) < likelihood.place(b) and quality.place(a) > quality.place(b):
                figures = [
                    f"{metric.replace('_', ' ')} {_cell(reports[a], metric)} against {_cell(reports[b], metric)}"
                    for metric in (likelihood.metric, quality.metric)
                ]
                sentences.append(
                    f"The two disagree: {a} has the better likelihood than {b} ({figures[0]}) and the worse samples "
                    f"({figures[1]}). Which to take depends on what it is for."
                )
    return sentences


def _cell(report: Report, name: str) -> str:
    return estimate_text(report[name]) if name in report else "-"
