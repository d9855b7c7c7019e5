"""What an evaluation found, as a table and as a file."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..checkpoint import write_file
from ..metrics import Estimate
from .records import ClassRecord, Floor, Record, by_name
from .table import classes_table, floor_lines, records_table

SCHEMA, VERSION = "genfast.evaluation", 1


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """The result of `evaluate`. Prints as a table; equal when its JSON is.

    model, data: {"name", ...} of what was compared, data with shape, classes and a fingerprint.  features: {"name",
    "dim", "fingerprint"}.  n samples against m real ones.  sampling: the settings of `model.sample`.
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
        """Header, a line a number with its interval and floor, the classes, what is missing, warnings."""
        parts = (
            self._header(),
            records_table(self.records, self.level),
            classes_table(self.per_class),
            floor_lines(self.records),
            [f"no {name}: {reason}" for name, reason in self.left_out.items()],
            [f"note: {warning}" for warning in self.warnings],
        )
        return "\n\n".join("\n".join(lines) for lines in parts if lines)

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
        """All of it, under "schema" and "version"; NaN and infinity as null. The same evaluation, the same text."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        content = {"schema": SCHEMA, "version": VERSION, **{name: _plain(value) for name, value in fields.items()}}
        return json.dumps(content, indent=1, allow_nan=False)

    def save(self, path: str | Path) -> None:
        """Write the JSON, whole or not at all."""
        write_file(path, (self.json() + "\n").encode())

    @classmethod
    def load(cls, path: str | Path) -> "Report":
        """The report in a file that `save` wrote. Raises ValueError if it is not one, or of another version."""
        try:
            content = json.loads(Path(path).read_text())
            schema, version = content.pop("schema"), content.pop("version")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"path: expected a report of genfast.evaluate, got {path}: {error!r}") from error
        if (schema, version) != (SCHEMA, VERSION):
            raise ValueError(f"path: expected {SCHEMA} version {VERSION}, got {schema} version {version} in {path}")
        try:
            content["records"] = _records(content["records"])
            content["per_class"] = tuple(
                ClassRecord(**{**row, "records": _records(row["records"])}) for row in content["per_class"]
            )
            return cls(**{**content, "warnings": tuple(content["warnings"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"path: {path} is damaged: {error!r}") from error


def _plain(value):
    """Dataclasses as dicts, tuples as lists, what is not finite as None."""
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _records(rows: list[dict]) -> tuple[Record, ...]:
    return tuple(
        Record(row["name"], row["better"], Estimate(**_numbers(row["estimate"], ("value", "low", "high"))),
               None if row["floor"] is None else Floor(**_numbers(row["floor"], ("value", "low", "high"))))
        for row in rows
    )  # fmt: skip


def _numbers(row: dict, names: Sequence[str]) -> dict:
    """The row with null as NaN where a number has to be, and lists as tuples."""
    row = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    row |= {name: math.nan for name in names if row[name] is None}
    if "details" in row:
        row["details"] = {name: math.nan if value is None else value for name, value in row["details"].items()}
    return row
