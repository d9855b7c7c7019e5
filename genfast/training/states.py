"""States of a training run: folders, named by their step, of all that it takes to go on from there.

    state/00002000/tensors.bin    the bytes of the tensors, one after the other, as they lie in the memory of a CPU
    state/00002000/state.json     their names, dtypes and shapes, the numbers, and the sha256 of either file

Such a folder is whole, or it is not there: it is written under another name, flushed and then renamed. Of what is read,
every byte is held against its sha256, and nothing is ever unpickled.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..common.checks import require_tensor
from ..common.files import CorruptCheckpoint, flushed, remove_folder, write_folder
from ..common.sealed import corrupt, read_sealed, require_format, sealed
from ..common.versions import versions

FORMAT = 1
NAME = re.compile(r"[0-9]{8,18}")
TENSORS, STATE = "tensors.bin", "state.json"
FIELDS = {"run": str, "step": int, "log": dict, "numbers": dict, "tensors": dict, "sha256": str}  # of state.json
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}
NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def states(folder: Path) -> list[Path]:
    """The states in a folder, the newest first."""
    try:
        found = [path for path in folder.iterdir() if NAME.fullmatch(path.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found, key=step_of, reverse=True)


def state_path(folder: Path, step: int) -> Path:
    """Where the state after `step` steps lies."""
    return folder / f"{step:08d}"


def step_of(path: Path) -> int:
    """The step of the state in the folder `path`."""
    return int(path.name)


def write_state(path: Path, run: str, log: dict, tensors: Mapping[str, Tensor], numbers: dict) -> None:
    """The state into the folder `path`, which is not there yet, of `state_path`.

    run: of which it is.  log: how far the log has come.  tensors: of any names, dtype, device and strides; of these
    only the values are kept.  numbers: what JSON can hold, and floats that are not finite; tuples become lists, and
    keys strings.
    Memory is taken for one tensor at a time, if it lies on a GPU or is not contiguous. Raises TypeError for what
    cannot be written; OSError with the file's name, and then nothing has changed.
    """
    said = {"run": run, "step": step_of(path), "log": log, "numbers": _encoded(numbers)}
    content = json.loads(json.dumps({"format": FORMAT} | versions() | said, allow_nan=False))

    def fill(waiting: Path) -> None:
        index, sha256 = _write_tensors(waiting / TENSORS, tensors)
        text = json.dumps(sealed(content | {"tensors": index, "sha256": sha256}), indent=1)
        with flushed(waiting / STATE) as file:
            file.write(text.encode())

    write_folder(path, fill)


def read_state(path: Path, run: str) -> tuple[int, dict, dict[str, Tensor], dict]:
    """(step, log, tensors, numbers) of the state in the folder, tensors contiguous and on the CPU. Raises
    CorruptCheckpoint, with the file's name, if anything is not as it was written, or is of another run; ValueError for
    another format."""
    file = path / STATE
    try:
        content = read_sealed(file)
    except (FileNotFoundError, NotADirectoryError):
        raise corrupt(file, "is missing") from None
    require_format(file, content, FORMAT, "that one goes on with it")
    if wrong := [name for name, kind in FIELDS.items() if type(content.get(name)) is not kind]:
        raise corrupt(file, f"is not what genfast writes: {', '.join(wrong)} missing or wrong", content)
    if {name: type(value) for name, value in content["log"].items()} != {"bytes": int, "sha256": str}:
        raise corrupt(file, "does not say how far the log has come", content)
    if content["run"] != run:
        raise corrupt(file, "belongs to another run", content)
    if content["step"] != step_of(path):
        raise corrupt(file, f"is of step {content['step']}", content)
    try:
        numbers = _decoded(content["numbers"])
    except RecursionError as error:
        raise corrupt(file, f"is not what genfast writes: {error!r}", content) from error
    return content["step"], content["log"], _read_tensors(path / TENSORS, content), numbers


def prune(folder: Path, keep: int, keep_every: int | None) -> None:
    """Remove all states but the newest `keep`, and those whose step is a multiple of `keep_every`."""
    for path in states(folder)[keep:]:
        if keep_every is None or step_of(path) % keep_every:
            remove_folder(path)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> tuple[dict, str]:
    """Name -> dtype and shape, in the order of the file, and its sha256."""
    index, sha256 = {}, hashlib.sha256()
    with flushed(path) as file:
        for name, value in tensors.items():
            value = require_tensor(f"tensors[{name!r}]", value).detach()
            index[name] = {"dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}
            data = _bytes(value.cpu().contiguous())
            file.write(data)
            sha256.update(data)
    return index, sha256.hexdigest()


def _read_tensors(path: Path, content: dict) -> dict[str, Tensor]:
    tensors, sha256 = {}, hashlib.sha256()
    try:
        places = {name: _place(entry) for name, entry in content["tensors"].items()}
        size = sum(dtype.itemsize * math.prod(shape) for dtype, shape in places.values())
        if not path.is_file():  # a pipe would be waited for
            raise corrupt(path, "is missing, or no file", content)
        if path.stat().st_size != size:  # before memory is taken for them
            raise corrupt(path, f"has {path.stat().st_size} bytes instead of {size}", content)
        with open(path, "rb") as file:
            for name, (dtype, shape) in places.items():
                tensors[name] = torch.empty(shape, dtype=dtype, device="cpu")
                data = _bytes(tensors[name])
                file.readinto(data)
                sha256.update(data)
    except OSError as error:
        raise corrupt(path, f"cannot be read: {error.strerror}", content) from error
    except (KeyError, TypeError, ValueError, OverflowError, MemoryError, RuntimeError) as error:
        if isinstance(error, CorruptCheckpoint):
            raise
        raise corrupt(path.with_name(STATE), f"describes no tensors: {error!r}", content) from error
    if sha256.hexdigest() != content["sha256"]:
        raise corrupt(path, "is damaged: its sha256 is not the one in state.json", content)
    return tensors


def _place(entry: dict) -> tuple[torch.dtype, tuple[int, ...]]:
    """dtype and shape, as the index says them."""
    shape = tuple(entry["shape"])
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"shape {shape}")
    return DTYPES[entry["dtype"]], shape


def _bytes(tensor: Tensor) -> np.ndarray:
    """The memory of a contiguous tensor."""
    return tensor.reshape(-1).view(torch.uint8).numpy()


def _encoded(value: object) -> object:
    """What JSON has no words for, in words that it has: floats that are not finite."""
    if isinstance(value, dict):
        return {name: _encoded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(item) for item in value]
    return {"float": str(float(value))} if isinstance(value, float) and not math.isfinite(value) else value


def _decoded(value: object) -> object:
    if isinstance(value, dict):
        if value.keys() == {"float"} and value["float"] in (*NOT_FINITE,):
            return NOT_FINITE[value["float"]]
        return {name: _decoded(item) for name, item in value.items()}
    return [_decoded(item) for item in value] if isinstance(value, list) else value
