"""What makes a run this run: its settings, data and model in JSON, and in what two of them differ."""

import functools
import json

import torch

from ..checkpoint import describe
from ..data.dataset import Data

# Settings that a run may have others of when it goes on.
FREE = {
    "workers", "out", "resume", "device", "micro_batch", "graph", "compile", "save_every", "keep", "keep_every",
    "log_every", "test_every", "grid_every", "callbacks", "progress", "parallel",
}  # fmt: skip
WIDEST = 60  # letters of a value in a table


def describe_run(model, data: Data, settings: dict, test: Data | None = None) -> dict:
    """{"settings", "data", "test", "model"} of a run, as JSON holds them.

    settings: what JSON can hold, and functions and the like, which count as their names do: of two lambdas of one
    function nobody can tell that they differ.  data, test: see `Data.fingerprint`.  model: see `describe_model`. Raises
    TypeError for a model, or a setting, that cannot be described.
    """
    try:
        settings = json.loads(json.dumps(settings, allow_nan=False, default=_named))
    except (TypeError, ValueError) as error:
        raise TypeError(f"settings must be what JSON can hold, or have names; {error}") from error
    held_out = None if test is None else test.fingerprint()
    return {"settings": settings, "data": data.fingerprint(), "test": held_out, "model": describe_model(model)}


def describe_model(model) -> dict:
    """What `checkpoint.describe` says of the model's class, arguments and names, whoever wrote it; networks that are
    not genfast's by their names only. And how many numbers are trained, so that these differ by something."""
    said = describe(model)
    parameters = list(model.parameters()) if callable(getattr(model, "parameters", None)) else []
    numbers = sum(parameter.numel() for parameter in parameters)
    trained = {"tensors": len(parameters), "numbers": numbers}
    return json.loads(json.dumps({name: said[name] for name in ("model", "config", "names")} | {"trained": trained}))


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
