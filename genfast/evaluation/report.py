"""What an evaluation found, as a table and as a file."""

import dataclasses
import json
import math
import types
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from ..common.files import as_path, write_file
from .records import ClassRecord, Record, by_name
from .table import baseline_lines, classes_table, records_table

SCHEMA, VERSION = "genfast.evaluation", 3
INFINITIES = {"Infinity": math.inf, "-Infinity": -math.inf}


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """The result of `evaluate`. Prints as a table; equal when its JSON is.

    model, data: {"name", ...} of what was compared, data with shape, classes, their names and a fingerprint.
    features: {"name", "dim", "fingerprint"}.  n samples against m real ones.  sampling: the settings of `model.sample`.
    records: a Record a number; report["precision"] is one of them.  per_class: a ClassRecord a class.
    left_out: why a metric is not there, by its name.  warnings: what the reader must know, a sentence each.
    """

    model: dict[str, Any]
    data: dict[str, Any]
    features: dict[str, Any]
    n: int
    m: int
    seed: int
    level: float
    sampling: dict[str, Any]
    genfast: str
    torch: str
    records: tuple[Record, ...]
    per_class: tuple[ClassRecord, ...]
    left_out: dict[str, str]
    warnings: tuple[str, ...]

    def __getitem__(self, name: str) -> Record:
        return by_name(self.records, name)

    def __contains__(self, name: str) -> bool:
        return any(record.name == name for record in self.records)

    def __eq__(self, other: object) -> bool:
        return self.json() == other.json() if isinstance(other, Report) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.json())

    def __str__(self) -> str:
        """Header, a line a number with its interval and baseline, the classes, what is missing, warnings."""
        parts = (
            self._header(),
            records_table(self.records, self.level),
            classes_table(self.per_class, [self.class_name(row.label) for row in self.per_class]),
            baseline_lines(self.records),
            [f"no {name}: {reason}" for name, reason in self.left_out.items()],
            [f"note: {warning}" for warning in self.warnings],
        )
        return "\n\n".join("\n".join(lines) for lines in parts if lines)

    def class_name(self, label: int) -> str:
        """The name of a class of the data, or its number where they have none."""
        names = self.data["names"]
        return str(label) if names is None else names[label]

    def _header(self) -> list[str]:
        """What was held against what."""
        shape = "x".join(map(str, self.data["shape"]))
        settings = "".join(f", {name}={value}" for name, value in self.sampling.items())
        return [
            f"samples   {self.n} of {self.model['name']}, seed {self.seed}{settings}",
            f"data      {self.m} of {self.data['name']}, {shape}, {self.data['classes'] or 'no'} classes",
            "features  {name}, {dim} a sample, {fingerprint}".format(**self.features),
            f"made by   genfast {self.genfast}, torch {self.torch}",
        ]

    def json(self) -> str:
        """All of it, under "schema" and "version"; of numbers, NaN as null and infinity as the string "Infinity" or
        "-Infinity". The same evaluation, the same text."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        content = {"schema": SCHEMA, "version": VERSION, **{name: _plain(value) for name, value in fields.items()}}
        return json.dumps(content, indent=1, allow_nan=False)

    def save(self, path: str | Path) -> None:
        """Write the JSON, whole or not at all."""
        write_file(as_path("path", path), (self.json() + "\n").encode())

    @classmethod
    def load(cls, path: str | Path) -> "Report":
        """The report in a file that `save` wrote, equal to the one that was saved. Raises ValueError with the path if
        it is not one, of another version, or damaged."""
        path = as_path("path", path)
        try:
            content = json.loads(Path(path).read_text())
            schema, version = content.pop("schema"), content.pop("version")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"path must be a report of genfast.evaluate; got {path}: {error!r}") from error
        if (schema, version) != (SCHEMA, VERSION):
            raise ValueError(f"path must be {SCHEMA} version {VERSION}; got {schema} version {version} in {path}")
        try:
            report = _decoded(content, cls, "report")
            str(report)  # which needs the keys of model, data and features
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ValueError(f"path: {path} is damaged: {error}") from error
        return report


def is_report(path: Path) -> bool:
    """Whether the file was written by `Report.save`, of any version."""
    try:
        return path.is_file() and json.loads(path.read_bytes())["schema"] == SCHEMA
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _plain(value):
    """Dataclasses as dicts, tuples as lists, and of what is not finite NaN as None and infinity as a string."""
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return next((name for name, infinity in INFINITIES.items() if value == infinity), None)
    return value


def _decoded(value, hint, where: str):
    """What `_plain` made of a value of the type `hint`. Raises ValueError where it is no such thing."""
    kind, of = get_origin(hint) or hint, get_args(hint)
    if kind is Any:
        return value
    if kind is types.UnionType:  # with None
        return None if value is None else _decoded(value, of[0], where)
    if kind is float and (value is None or value in INFINITIES):
        return math.nan if value is None else INFINITIES[value]
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        if not isinstance(value, dict) or value.keys() != hints.keys():
            raise ValueError(f"{where} must be an object with {', '.join(hints)}; got {_short(value)}")
        return kind(**{name: _decoded(value[name], hint, f"{where}.{name}") for name, hint in hints.items()})
    expected = {float: (float, int), tuple: list}.get(kind, kind)
    if not isinstance(value, expected) or isinstance(value, bool):
        raise ValueError(f"{where} must be {kind.__name__}; got {_short(value)}")
    if kind is tuple:
        return tuple(_decoded(item, of[0], f"{where}[{i}]") for i, item in enumerate(value))
    if kind is dict:
        return {name: _decoded(item, of[1], f"{where}.{name}") for name, item in value.items()}
    return value


def _short(value) -> str:
    return repr(value)[:60]
