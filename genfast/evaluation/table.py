"""Numbers, records and classes as lines of text."""

from collections.abc import Sequence

from ..metrics import Estimate
from .records import Baseline, ClassRecord, Record, has_interval

WIDTH = 120  # of a line, at most
ARROWS = {"lower": "↓", "higher": "↑", "near_half": "½"}


def number(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def interval(found: Estimate | Baseline) -> str:
    """A dash for one that says nothing."""
    return f"[{number(found.low)}, {number(found.high)}]" if has_interval(found) else "-"


def estimate_text(record: Record) -> str:
    """What the interval is about, and the interval."""
    return f"{number(record.center)} {interval(record.estimate)}"


def verdict(record: Record) -> str:
    """What the number says of the samples, in words; nothing where it says nothing."""
    if record.apart is None:
        return ""
    return "worse than real" if record.worse else "unlike real data" if record.apart else "as real data"


def aligned(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Lines of columns, two spaces apart: those in `left` flush left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


def records_table(records: Sequence[Record], level: float) -> list[str]:
    """A line a number, and a second one where its interval is about infinite n. null: what the metric expects of two
    sets from one distribution."""
    rows = [("metric", "", "value", f"{level:.0%} interval", "real data", "its interval", "null", "n", "")]
    for record in records:
        e, baseline = record.estimate, record.baseline
        about = interval(e), "" if baseline is None else interval(baseline)
        name, real = (record.name, ARROWS.get(record.better, "")), "-" if baseline is None else number(baseline.value)
        n, null = str(e.n), "" if record.null is None else number(record.null)
        if record.extrapolated:
            rows.append((*name, number(e.value), "", real, "", null, n, ""))
            rows.append(("  at infinite n", "", number(record.center), about[0], "", about[1], "", "", verdict(record)))
        else:
            rows.append((*name, number(e.value), about[0], real, about[1], null, n, verdict(record)))
    return aligned(rows, left=(0, 1, 8))


def classes_table(classes: Sequence[ClassRecord], names: Sequence[str]) -> list[str]:
    """A line a class, by its name, and a last one with what real data are given, the mean over the classes. Numbers for
    which a line has no room follow in a table of their own."""
    head = [["class", *names, "real data"]]
    head += [[name, *(str(getattr(row, name)) for row in classes), ""] for name in ("n", "m")]
    lines, shown = [], []
    for name in dict.fromkeys(record.name for row in classes for record in row.records):
        column = _column(name, [{record.name: record for record in row.records}.get(name) for row in classes])
        if shown and max(map(len, aligned([*zip(*head, *shown, column)]))) > WIDTH:
            lines += [*aligned([*zip(*head, *shown)]), ""]
            shown = []
        shown.append(column)
    return lines + aligned([*zip(*head, *shown)]) if shown else []


def _column(name: str, records: Sequence[Record | None]) -> list[str]:
    baselines = [record.baseline.value for record in records if record is not None and record.baseline is not None]
    cells = ["-" if record is None else estimate_text(record) for record in records]
    return [name, *cells, number(sum(baselines) / len(baselines)) if baselines else "-"]


def baseline_lines(records: Sequence[Record]) -> list[str]:
    """What "real data" in the table stands for, a line for each kind and size."""
    names = {}
    for record in records:
        if (f := record.baseline) is not None:
            names.setdefault((f.kind, f.n, f.m, f.splits), []).append(record.name)
    return [
        f"real data: {kind}, {n}{'' if m is None else f' against {m}'}"
        f"{f', mean of {splits}' if splits > 1 else ''} ({', '.join(about)})"
        for (kind, n, m, splits), about in names.items()
    ]
