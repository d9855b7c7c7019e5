"""What makes a run this run: its settings, data and model in JSON, and in what two of them differ."""

import functools
import hashlib
import json
from collections.abc import Iterator

import torch
from torch import Tensor

from ..checkpoint import describe
from ..data.dataset import Data

# Settings that a run may have others of when it goes on.
FREE = {
    "out", "resume", "device", "micro_batch", "graph", "compile", "save_every", "keep", "keep_every", "log_every",
    "test_every", "grid_every", "callbacks", "progress", "parallel",
}  # fmt: skip
PART = 2**24  # bytes that are copied and hashed at once
WIDEST = 60  # letters of a value in a table


def describe_run(model, data: Data, settings: dict, test: Data | None = None) -> dict:
    """{"settings", "data", "test", "model"} of a run, as JSON holds them.

    settings: what JSON can hold, and functions and the like, which count as their names do: of two lambdas of one
    function nobody can tell that they differ.  data, test: see `fingerprint`.  model: see `describe_model`. Raises
    TypeError for a model, or a setting, that cannot be described.
    """
    try:
        settings = json.loads(json.dumps(settings, allow_nan=False, default=_named))
    except (TypeError, ValueError) as error:
        raise TypeError(f"settings must be what JSON can hold, or have names; {error}") from error
    held_out = None if test is None else fingerprint(test)
    return {"settings": settings, "data": fingerprint(data), "test": held_out, "model": describe_model(model)}


def describe_model(model) -> dict:
    """What `checkpoint.describe` says of the model's class, arguments and names, whoever wrote it; networks that are
    not genfast's by their names only. And how many numbers are trained, so that these differ by something."""
    said = describe(model)
    parameters = list(model.parameters()) if callable(getattr(model, "parameters", None)) else []
    numbers = sum(parameter.numel() for parameter in parameters)
    trained = {"tensors": len(parameters), "numbers": numbers}
    return json.loads(json.dumps({name: said[name] for name in ("model", "config", "names")} | {"trained": trained}))


def fingerprint(data: Data) -> dict:
    """Number, shape, classes and names of the samples, and the sha256 of all their bytes, whatever their device and
    strides: 1.2 GB a second of one core (AMD EPYC), so half a second for CIFAR-10 in float32."""
    sha256 = hashlib.sha256()
    for column in (data.x, data.label, data.condition):
        if column is not None:
            sha256.update(json.dumps([str(column.dtype), list(column.shape)]).encode())
            for part in _parts(column):
                sha256.update(part)
    levels = getattr(data, "levels", None)
    names = None if data.names is None else list(data.names)
    said = {"samples": len(data), "shape": list(data.shape), "classes": data.classes, "names": names, "levels": levels}
    return said | {"sha256": sha256.hexdigest()}


def differences(there: dict, here: dict) -> list[tuple[str, str, str]]:
    """(name, there, here) of all in which two descriptions of a run differ and must not: `steps` may be larger here.

    there["measured"] is how the model was described after it had been measured, None before: it may be like either.
    """
    free = set(FREE)
    old, new = there["settings"].get("steps"), here["settings"].get("steps")
    if type(old) is type(new) is int and old <= new:
        free.add("steps")
    rows = [row for row in _rows("", there["settings"], here["settings"]) if row[0].partition(".")[0] not in free]
    for part in ("data", "test"):
        rows += _rows(part, there[part], here[part])
    models = [_rows("model", said, here["model"]) for said in (there["model"], there["measured"]) if said is not None]
    return rows + min(models, key=len)


def table(rows: list[tuple[str, str, str]]) -> str:
    """The rows under the heads name, there, here."""
    lines = [("name", "there", "here"), *rows]
    name, there = (max(len(line[column]) for line in lines) for column in range(2))
    return "\n".join(f"    {line[0]:<{name}}  {line[1]:<{there}}  {line[2]}" for line in lines)


def _rows(name: str, there: object, here: object) -> list[tuple[str, str, str]]:
    """What differs below a name, as deep as both are dicts."""
    if there == here:
        return []
    if not (isinstance(there, dict) and isinstance(here, dict)):
        return [(name, _shown(there), _shown(here))]
    return [row for key in {**there, **here} for row in _rows_of(f"{name}.{key}".strip("."), key, there, here)]


def _rows_of(name: str, key: str, there: dict, here: dict) -> list[tuple[str, str, str]]:
    if key in there and key in here:
        return _rows(name, there[key], here[key])
    return [(name, *(_shown(said[key]) if key in said else "-" for said in (there, here)))]


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."


def _named(value: object) -> object:
    """What stands for something that JSON has no word for."""
    if isinstance(value, functools.partial):
        return {"partial": _named(value.func), "arguments": [*value.args], "keywords": value.keywords}
    if isinstance(value, torch.device | torch.dtype):
        return str(value)
    kind = value if hasattr(value, "__qualname__") else type(value)
    if not callable(value):
        raise TypeError(f"got {type(value).__name__}")
    return f"{kind.__module__}.{kind.__qualname__}"


def _parts(column: Tensor) -> Iterator[memoryview]:
    """Its bytes in the order of the samples, some at a time."""
    rows = max(1, PART // max(1, column[:1].numel() * column.element_size()))
    for part in column.detach().split(rows):
        yield part.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
