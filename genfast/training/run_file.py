"""RUN/run.json: what a run is, for those who go on with it, and for `genfast train --config RUN`."""

import contextlib
import json
import os
from pathlib import Path

from ..checkpoint import rebuilt
from ..common.files import CorruptCheckpoint, as_path, write_file
from ..common.sealed import corrupt, read_sealed, require_format, sealed
from ..common.versions import versions

FORMAT = 1
FILE = "run.json"
FIELDS = {
    "id": (str,), "settings": (dict,), "data": (dict,), "test": (dict, type(None)), "model": (dict,),
    "measured": (dict, type(None)), "words": (dict, type(None)), "finished": (int, type(None)),
}  # fmt: skip


def read_run(path) -> dict:
    """What RUN/run.json says, of the folder `path` of a run:

    id              which run its states belong to
    settings        of `gf.fit`, as they were last; functions by their names
    data, test      fingerprints (description.py); test None without held-out data
    model           class, arguments and class names, networks by name; measured: the same after the model was measured,
                    None before
    words           what the command was told of data, network and preset; None where there was no command
    finished        the step at which the run was done; None while it is not
    genfast, torch  the versions that began it

    Raises FileNotFoundError if there is no run; CorruptCheckpoint if the file is damaged or not what genfast writes;
    ValueError for another format; FileExistsError if another program wrote it.
    """
    file = as_path("path", path) / FILE
    try:
        content = read_sealed(file)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"no run in {file.parent}: {FILE} is not there") from None
    except CorruptCheckpoint:
        _require_ours(file)
        raise
    require_format(file, content, FORMAT, "train again")
    if wrong := [name for name, kinds in FIELDS.items() if type(content.get(name, ...)) not in kinds]:
        raise corrupt(file, f"is not what genfast writes: {', '.join(wrong)} missing or wrong", content)
    return content


def rebuilt_model(path):
    """A model like that of the run in the folder `path`, as it was before it was measured, with new weights: networks
    by their names, so that no code is run that is not genfast's. Raises as `read_run` does, and ValueError for a class
    or a network that genfast does not know."""
    model = read_run(path)["model"]
    return rebuilt(model, as_path("path", path), model["trained"]["numbers"])


def new_run(description: dict, words: dict | None) -> dict:
    """The content of run.json of a run that starts now."""
    begun = {"format": FORMAT} | versions() | {"id": os.urandom(8).hex()}
    return begun | description | {"measured": None, "words": words, "finished": None}


def write_run(path: Path, content: dict) -> None:
    """Replace RUN/run.json, or leave it and raise OSError with its name."""
    write_file(path / FILE, json.dumps(sealed(content), indent=1).encode())


def _require_ours(file: Path) -> None:
    """FileExistsError for a run.json of another program, as far as the beginning of it says."""
    if not file.is_file():
        return
    with contextlib.suppress(PermissionError), open(file, "rb") as opened:
        content = opened.read(2**16)
        if content and b'"genfast"' not in content:
            raise FileExistsError(f"{file} is of another program: pass another folder, or move it away")
