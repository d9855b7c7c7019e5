"""What a report means, in words: each finding is judged against what real data are given, never against 1."""

import dataclasses

from .records import Record
from .report import Report
from .table import estimate_text, interval, number

CLEARLY = 0.95  # of the baseline: what is lower by less is no collapse, however narrow its interval
MAINLY = 3  # times the other's loss: a loss of fidelity or of variety, rather than of both


@dataclasses.dataclass(frozen=True)
class Finding:
    """name: "collapse", "junk", "far", "memorization", "labels", "classes", "few_samples", "different",
    "indistinguishable" or "undecided".  sentence: what it means.  evidence: the numbers behind it, by name."""

    name: str
    sentence: str
    evidence: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The findings, the gravest first. Prints as sentences, and the warnings of the report; `"collapse" in diagnosis`
    asks for a finding by name."""

    findings: tuple[Finding, ...]
    warnings: tuple[str, ...] = ()

    def __contains__(self, name: str) -> bool:
        return any(finding.name == name for finding in self.findings)

    def __getitem__(self, name: str) -> Finding:
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(f"no finding {name!r}; there are {[finding.name for finding in self.findings]}")

    def __str__(self) -> str:
        notes = [f"note: {warning}" for warning in self.warnings]
        return "\n".join([*(finding.sentence for finding in self.findings), *notes])


def diagnose(report: Report) -> Diagnosis:
    """What the numbers of a report say, in words, with the numbers.

    collapse          recall or coverage clearly lower, precision and density not, or less so by far: parts of the data
                      are never drawn
    junk              precision or density clearly lower, recall not, or less so by far: samples that are no data
    far               both clearly lower: neither as good nor as varied
    memorization      more samples lie next to a training example than held-out data do
    labels            samples are seen as another class than asked for, more often than real data are
    classes           a class of the data was never drawn, by more than chance
    few_samples       no more samples than twice the features: the Frechet distance is mostly bias, without an interval
    different         some metric tells the samples from real data, and none of the above says why
    indistinguishable nothing here tells them apart, at this n
    undecided         no number here has an interval, and a baseline or a null to be judged by

    "As for real data" is within the baseline of the report, the same metric of real data against real data, and by what
    the metric expects of equal distributions, its null, where it knows that: `Record.worse` says whether the whole
    interval is beyond either, `Record.apart` whether it excludes the null on the other side too. "Clearly lower": the
    whole interval is beyond that of real data, and the value less than 0.95 of the baseline; "by far": a third of the
    relative loss. Precision and recall of perfect samples are well under 1 (0.87 at 800 samples in 16 dimensions with
    k = 5), so 1 is no yardstick.
    Raises TypeError unless `report` is a Report.
    """
    if not isinstance(report, Report):
        raise TypeError(f"report must be a Report of genfast.evaluate; got {type(report).__name__}")
    found = [rule(report) for rule in (_support, _memorization, _labels, _classes)]
    found = [finding for finding in found if finding is not None]
    found += filter(None, [_difference(report, explained=bool(found)), _few_samples(report)])
    return Diagnosis(tuple(found), report.warnings)


def _support(report: Report) -> Finding | None:
    """Collapse, junk or both, by who lies in whose neighborhood."""
    realism, reach = _there(report, "precision", "density"), _there(report, "recall")
    fidelity = [record for record in realism if _lower(record)]
    variety = [record for record in _there(report, "recall", "coverage") if _lower(record)]
    # Junk takes samples away from where the data are, so coverage sinks with it; recall does not.
    unreached = [record for record in reach if _lower(record)]
    if variety and _loss(variety) > MAINLY * _loss(fidelity):
        but = "fidelity suffers less" if fidelity else "what is drawn looks real"
        sentence = f"Collapse: parts of the data are never drawn. {_cited(variety)}{_while(but, realism)}."
        return Finding("collapse", sentence, _evidence(variety + realism))
    if fidelity and _loss(fidelity) > MAINLY * _loss(unreached):
        but = "variety suffers less" if unreached else "the data are reached"
        sentence = f"Junk: some samples are unlike any data. {_cited(fidelity)}{_while(but, reach)}."
        return Finding("junk", sentence, _evidence(fidelity + reach))
    if fidelity:
        both = fidelity + unreached
        return Finding("far", f"Far: the samples lack both fidelity and variety. {_cited(both)}.", _evidence(both))
    return None


def _loss(records: list[Record]) -> float:
    """The largest share of a baseline that is lost."""
    return max((1 - record.value / record.reference for record in records), default=0.0)


def _while(but: str, records: list[Record]) -> str:
    return f", while {but}: {_cited(records)}" if records else ""


def _memorization(report: Report) -> Finding | None:
    for record in _there(report, "memorization"):
        if record.worse:
            return Finding(
                "memorization",
                f"Memorization: samples lie nearer to training examples than unseen data do. {_cited([record])}.",
                _evidence([record]),
            )
    return None


def _labels(report: Report) -> Finding | None:
    for record in _there(report, "label_agreement"):
        if _lower(record):
            rows = [row for row in report.per_class if row.records]
            worst = min(rows, key=lambda row: row["label_agreement"].value, default=None)
            where = ""
            if worst is not None:
                where = f" Class {report.class_name(worst.label)} is worst, {number(worst['label_agreement'].value)}."
            return Finding(
                "labels",
                f"Labels: samples are seen as another class than they were asked for. {_cited([record])}.{where}",
                _evidence([record]),
            )
    return None


def _classes(report: Report) -> Finding | None:
    never = [row for row in report.per_class if row.n == 0 and (1 - row.m / report.m) ** report.n < 1 - report.level]
    if not never:
        return None
    counts = " and ".join(f"class {report.class_name(row.label)}, of which the data have {row.m}" for row in never)
    return Finding(
        "classes",
        f"Classes: of {report.n} samples none is of {counts}.",
        {f"class_{row.label}_{name}": getattr(row, name) for row in never for name in ("n", "m")},
    )


def _difference(report: Report, explained: bool) -> Finding | None:
    judged = [record for record in report.records if record.apart is not None]
    apart = [record for record in judged if record.apart]
    if explained:
        return None
    if not judged:
        sentence = "Undecided: no number here has an interval, and a baseline or a null to be judged by."
        return Finding("undecided", sentence, {})
    if apart:
        sentence = f"Different: the samples can be told from real data. {_cited(apart)}.{_chance(report, apart)}"
        return Finding("different", sentence, _evidence(apart))
    names = ", ".join(record.name for record in judged)
    sentence = f"Indistinguishable: at n = {report.n} nothing here tells the samples from real data ({names})."
    return Finding("indistinguishable", sentence, _evidence(judged))


def _chance(report: Report, apart: list[Record]) -> str:
    """How often perfect samples are told apart so, where it is by nulls alone."""
    if any(record.worse_than_data for record in apart):
        return ""
    nulls = sum(record.apart is not None and record.null is not None for record in report.records)
    share = f"{1 - report.level**nulls:.0%}"
    return f" By chance one of {nulls} intervals excludes its null in about {share} of all reports: take more samples."


def _few_samples(report: Report) -> Finding | None:
    dim, few = report.features["dim"], min(report.n, report.m)
    if few > 2 * dim or "frechet" not in report:
        return None
    sentence = (
        f"Few samples: {report.n} against {report.m} in {dim} dimensions. Of no more than twice as many samples as "
        "dimensions the Frechet distance is mostly bias and has no interval: take more than "
        f"{2 * dim}, or other features."
    )
    return Finding("few_samples", sentence, {"n": report.n, "m": report.m, "dim": dim})


def _there(report: Report, *names: str) -> list[Record]:
    return [report[name] for name in names if name in report]


def _lower(record: Record) -> bool:
    """Clearly: beyond the interval of real data where they have one, and by more than a twentieth."""
    worse = record.worse if record.worse_than_data is None else record.worse_than_data
    return bool(worse) and record.value < CLEARLY * record.reference


def _cited(records: list[Record]) -> str:
    parts = []
    for record in records:
        known = [] if record.baseline is None else [f"real data {interval(record.baseline)}"]
        known += [] if record.null is None else [f"null {number(record.null)}"]
        beside = f" ({', '.join(known)})" if known else ""
        parts.append(f"{record.name.replace('_', ' ')} {estimate_text(record)}{beside}")
    return ", ".join(parts)


def _evidence(records: list[Record]) -> dict[str, float]:
    """Of each metric what its interval is about, the interval, that of real data, and the null: name, name_low,
    name_baseline_low, name_null, and so on."""
    numbers = {}
    for record in records:
        e, baseline = record.estimate, record.baseline
        numbers |= {record.name: record.center, f"{record.name}_low": e.low, f"{record.name}_high": e.high}
        if baseline is not None:
            numbers |= {f"{record.name}_baseline_low": baseline.low, f"{record.name}_baseline_high": baseline.high}
        if record.null is not None:
            numbers[f"{record.name}_null"] = record.null
    return numbers
