"""What a verification found: one Record a check, and the table of them."""

import dataclasses
from typing import Any

import torch

from .._extension import extension
from ..common.files import to_json
from ..common.versions import versions


@dataclasses.dataclass(frozen=True)
class Record:
    """One check. kind: "ode", "sde", "corrector" or "other" for a solver ("solver" if it could not be told);
    otherwise "accuracy", "likelihood" or "invariance".

    failures: what is wrong, a sentence each.  declared_order, measured_order: of a solver that has an order.  figures:
    whatever else was measured, and what it was held against.  seconds: how long the check took.
    """

    name: str
    kind: str
    failures: tuple[str, ...]
    declared_order: int | None = None
    measured_order: float | None = None
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.failures

    def as_dict(self) -> dict[str, Any]:
        """Name, kind, declared_order, measured_order, passed, failures, seconds, and the figures beside them."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        figures = fields.pop("figures")
        return fields | {"failures": list(self.failures), "passed": self.passed} | figures


_SOLVER_KINDS = ("ode", "sde", "corrector", "other", "solver")
_COLUMNS = ("solver", "kind", "order", "measured", "gate", "rounding", "mean/se", "cov/se", "result")
_ROW = "{:<26}{:<10}{:>6}{:>10}{:>13}{:>10}{:>9}{:>8}  {}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


@dataclasses.dataclass(frozen=True)
class Report:
    """The records of a verification. Prints as a table; `passed` is whether all of them did."""

    records: tuple[Record, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        return all(record.passed for record in self.records)

    def json(self) -> str:
        """The records as a JSON list."""
        return to_json([record.as_dict() for record in self.records])

    def __str__(self) -> str:
        """Order: declared, then measured and its gate. Rounding: float32 kernels against float64, relative. Mean and
        covariance: distance from the truth in standard errors."""
        lines = [_ROW.format(*_COLUMNS)]
        for record in self.records:
            if record.kind in _SOLVER_KINDS:
                lines += [self._solver(record), *self._reasons(record)]
        lines += ["", f"{'check':<62}{'kind':<11}{'found':>7}{'allowed':>9}  result"]
        for record in self.records:
            if record.kind not in _SOLVER_KINDS:
                found, allowed = (_number(record.figures.get(name), ".1e") for name in ("error", "allowed"))
                result = "ok" if record.passed else "FAILED"
                lines.append(f"{record.name:<62}{record.kind:<11}{found:>7}{allowed:>9}  {result}")
                lines += self._reasons(record)
        passed = sum(record.passed for record in self.records)
        lines += [
            "",
            f"{passed} of {len(self.records)} passed in {self.seconds:.0f} s "
            f"(genfast {versions()['genfast']}, torch {versions()['torch']}, CPU kernels {extension.isa()}, "
            f"{torch.get_num_threads()} threads)",
        ]
        return "\n".join(lines)

    @staticmethod
    def _solver(record: Record) -> str:
        figures, gate = record.figures, record.figures.get("gate")
        return _ROW.format(
            record.name,
            record.kind,
            _number(record.declared_order or None, "d"),
            _number(record.measured_order, ".2f"),
            "-" if gate is None else f"{gate[0]:.2f} - {gate[1]:.2f}",
            _number(figures.get("rounding"), ".0e"),
            _number(figures.get("mean_deviation"), ".1f"),
            _number(figures.get("covariance_deviation"), ".1f"),
            "ok" if record.passed else "FAILED",
        )

    @staticmethod
    def _reasons(record: Record) -> list[str]:
        return [f"    {failure}" for failure in record.failures]
