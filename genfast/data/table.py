"""Data from a table: a frame of pandas or polars, or a dict of columns."""

import numbers
from collections.abc import Mapping
from typing import NoReturn

import numpy as np

from ..common.checks import require_choice, shown
from .dataset import Data

NUMBERS = "biuf"  # kinds of dtypes


def table(
    frame: object, label: str | int | None = None, condition: str | int | list | tuple | None = None
) -> Data:  # fmt: skip
    """Data whose samples are the rows of a table: x (N, D) of its D numeric columns, in their order.

    frame      of pandas or polars, or a dict of columns of one length: whatever has names and `frame[name]`
    label      the name of a column of strings, integers or bools, whose distinct values are the classes, in their
               order, and, as text, `Data.names`
    condition  the name of a column of numbers, or a list of names, which are given to a model and not modeled; a
               missing one is NaN, which is null
    All other columns are x, named by `Data.columns`. Bools are 0 and 1. Nothing is scaled: see `Data.standardized`.
    Raises TypeError or ValueError naming the column, and the row, counted from 0, of a missing value, or of one that is
    no number.
    """
    columns = list(frame) if isinstance(frame, Mapping) else getattr(frame, "columns", None)
    if columns is None or not hasattr(frame, "__getitem__"):
        raise TypeError(f"frame must be a frame of pandas or polars, or a dict of columns; got {type(frame).__name__}")
    columns = list(columns)
    if repeated := sorted({str(name) for name in columns if columns.count(name) > 1}):
        raise ValueError(f"frame must have columns of distinct names; got more than one {', '.join(repeated)}")
    label = None if label is None else require_choice("label", label, columns)
    given = condition if isinstance(condition, list | tuple) else [] if condition is None else [condition]
    given = [require_choice("condition", name, columns) for name in given]
    if label is not None and label in given:
        raise ValueError(f"condition must be other columns than label; got {label} as both")
    own = [name for name in columns if name not in given and (label is None or name != label)]
    if not own:
        raise ValueError("frame must have a column besides label and condition; got none")
    number, names = (None, None) if label is None else _classes(label, frame[label])
    x = np.stack(_even({name: _numbers(name, frame[name]) for name in own}), axis=1)
    told = np.stack(_even({name: _numbers(name, frame[name], missing=True) for name in given}), 1) if given else None
    return Data(x, number, condition=told, names=names, columns=[str(name) for name in own])


def _even(columns: Mapping[object, np.ndarray]) -> list[np.ndarray]:
    """The columns, of one length."""
    (first, one), *others = columns.items()
    for name, other in others:
        if len(other) != len(one):
            got = f"{len(one)} in {first}, {len(other)} in {name}"
            raise ValueError(f"frame must have columns of one length; got {got}")
    return list(columns.values())


def _column(name: object, column: object) -> tuple[np.ndarray, np.ndarray]:
    """The values of a column, (N,), and which of them are missing."""
    values = np.asarray(column)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"frame must have columns of at least one row; got shape {values.shape} in {name}")
    if values.dtype.kind == "O":
        return values, np.array([_is_missing(value) for value in values])
    return values, np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)


def _is_missing(value: object) -> bool:
    """Whether it is None, NaN, or what pandas has for them."""
    return value is None or type(value).__name__ in ("NAType", "NaTType") or bool(value != value)


def _numbers(name: object, column: object, missing: bool = False) -> np.ndarray:
    """(N,) float64; NaN where one is missing, if that may be."""
    values, gaps = _column(name, column)
    if gaps.any() and not missing:
        _missing(name, gaps)
    if values.dtype.kind in NUMBERS:
        return values.astype(np.float64)
    found = np.full(len(values), np.nan)
    for row, value in enumerate(values.tolist()):
        if isinstance(value, numbers.Real):
            found[row] = value
        elif not gaps[row]:
            got = f"{shown(value)} in column {name}, row {row}: pass it as label=, or leave it out"
            raise TypeError(f"frame must hold numbers beside the label; got {got}")
    return found


def _classes(name: object, column: object) -> tuple[np.ndarray, tuple[str, ...]]:
    """The number of the class of each row, (N,) int64, and the names of the classes."""
    values, gaps = _column(name, column)
    if gaps.any():
        _missing(name, gaps)
    found = values.tolist()
    if {type(value) for value in found} not in ({str}, {int}, {bool}):
        got = ", ".join(sorted({type(value).__name__ for value in found}))
        raise TypeError(f"label must be a column of strings, integers or bools; got {got} in column {name}")
    classes = sorted(set(found))
    number = {value: place for place, value in enumerate(classes)}
    return np.array([number[value] for value in found], np.int64), tuple(map(str, classes))


def _missing(name: object, gaps: np.ndarray) -> NoReturn:
    rows = np.flatnonzero(gaps)
    more = f" and {len(rows) - 1} other rows" if len(rows) > 1 else ""
    raise ValueError(f"frame must have no missing values; got one in column {name}, row {rows[0]}{more}")
