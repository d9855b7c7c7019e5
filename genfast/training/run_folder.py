"""The folder of a training run, and what of it is found there by who goes on with it.

    RUN/run.json                          settings, versions, fingerprint of the data, the model (run_file.py)
    RUN/log.jsonl                         one object a line (log_file.py)
    RUN/state/00002000/                   what it takes to go on (states.py)
    RUN/model.json, model-*.safetensors   averaged weights of the last checkpoint (checkpoint.py)
    RUN/best/                             the same at the lowest held-out loss
    RUN/latents.npy, latents.json         what a frozen encoder finds of the data (encoded.py)
    RUN/averages/, samples/, plot.png     written by others

A process killed anywhere leaves the newest whole state, or the one before it, and what it left half done is removed by
the next. On the disk there are at most `keep` + 1 states at a time, and those of `keep_every`: with AdamW and one
average each takes four times the weights. Of the checkpoint, and of the best one, there are two while it is replaced.
"""

import contextlib
import dataclasses
import functools
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from .. import checkpoint
from ..common.checks import require_bool, require_integer
from ..common.files import (
    CorruptCheckpoint,
    flush,
    folder_path,
    remove_folder,
    remove_temporaries,
    writable_folder,
)
from ..common.locks import run_in
from ..common.processes import first
from ..common.warn import warn_user
from . import run_file
from .description import describe_model, differences, table
from .log_file import LogFile
from .states import prune, read_state, state_path, states, write_state

EVENTS = re.compile(r"events\.out\.tfevents\..*")  # TensorBoard's, which may have begun before the run
REPEATED = ("batch", "seed")  # settings that a checkpoint says too


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a run begins: after `step` steps, with the tensors and numbers of the state saved then; None at step 0.

    finished: whether nothing is left to do.  words: what there is to say about it; None for a new run.
    """

    step: int = 0
    tensors: dict[str, Tensor] | None = None
    numbers: dict | None = None
    finished: bool = False
    words: str | None = None

    def without_numbers(self) -> "Start":
        """This one with tensors that only say of what dtype and shape they are."""
        tensors = self.tensors and {name: value.to("meta") for name, value in self.tensors.items()}
        return dataclasses.replace(self, tensors=tensors)


class RunFolder:
    """The folder `path` of a run, which goes on where one was killed, unless `resume` is False.

    keep        newest states that are kept
    keep_every  those whose step is a multiple of it are kept for ever; None for none
    words       what the command was told, to be set before `open`: kept in run.json
    To be held against this run is `description`, what `describe_run` says. Where the folder holds

    nothing                                 the run starts; hidden files, and those of TensorBoard, count as nothing
    this run, unfinished                    it goes on from the newest state; the log is what it was then
    this run, without a state yet           it starts again, also with other settings: nothing is lost
    this run, finished                      `Start.finished`
    this run, with fewer steps              it goes on
    other settings, model or data           ValueError, with a table; which may differ: description.FREE
    anything without a run                  FileExistsError that names it; with resume=False for a run, too
    a damaged newest state                  a UserWarning that names the file; the one before is used, and the damaged
                                            one stays until the next is saved. CorruptCheckpoint if none is whole
    Raises ValueError for arguments out of range, or `path` the name of a file.

    Of several processes the first looks, reads and writes; what it finds, and its errors, are those of all.
    """

    def __init__(self, path, resume: bool = True, keep: int = 2, keep_every: int | None = None):
        self.path = folder_path("out", path).absolute()  # whatever the working directory is later
        self.resume, self.keep = require_bool("resume", resume), require_integer("keep", keep, 1)
        self.keep_every = None if keep_every is None else require_integer("keep_every", keep_every, 1)
        self.words = None
        self._states, self._log = self.path / "state", LogFile(self.path / "log.jsonl")
        self._run = None  # the content of run.json, once it is open
        self._damaged = []  # states that are not whole

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Inside it the folder, made if need be, is this run's alone. Raises BlockingIOError, with process and host, if
        another one has it, and OSError if nothing can be written there."""
        with contextlib.ExitStack() as stack:
            first(lambda: stack.enter_context(run_in(writable_folder("out", self.path))))
            yield

    def look(self, description: dict) -> None:
        """Raises what `claimed` and `open` would raise, if the folder is there; writes nothing but the lock. Not inside
        `claimed`."""
        first(functools.partial(self._look, description))

    def open(self, description: dict) -> Start:
        """Where the run begins, after run.json and the log have been made to fit; inside `claimed`. In other processes
        than the first the tensors lie on the meta device. Raises as the table says, and OSError with the name of a file
        that cannot be written."""
        here = []

        def opened() -> Start:
            here.append(self._open(description))
            return here[0].without_numbers()

        there = first(opened)
        return here[0] if here else there

    def _look(self, description: dict) -> None:
        if self.path.exists():
            with self.claimed():
                self._found(description)

    def _open(self, description: dict) -> Start:
        self._run, start, mark, damaged = self._found(description)
        for folder in (self.path, self._states, self.path / "samples", self.path / "averages"):
            remove_temporaries(folder, besides=(".model",))  # of these checkpoint.py still learns something
        for _, error in damaged:
            warn_user(f"{error}: the run goes on from the state of step {start.step}")
        self._damaged = [path for path, _ in damaged]
        words = self.words if self.words is not None or self._run is None else self._run["words"]
        if start.tensors is None:
            self._write(run_file.new_run(description, words))
            flush(self.path.parent)
        else:
            finished = self._run["finished"] if start.finished else None
            self._write(self._run | {"settings": description["settings"], "words": words, "finished": finished})
        if not start.finished:
            self._log.cut(mark, start.step)
        return start

    def measured(self, model) -> None:
        """Keeps how the model is described now that it has been measured."""
        first(lambda: self._write(self._run | {"measured": describe_model(model)}))

    def save(self, step: int, tensors: Mapping[str, Tensor], numbers: dict) -> None:
        """The state after `step` steps, with the log as it is, then, once that is on the disk, no more old ones than
        are to be kept. Nothing is done if there is a state of this step already. tensors, numbers and what is raised:
        see `write_state`."""
        step = require_integer("step", step, 0)
        first(lambda: self._save(step, tensors, numbers))

    def _save(self, step: int, tensors: Mapping[str, Tensor], numbers: dict) -> None:
        if not self._states.is_dir():
            os.mkdir(self._states)
            flush(self.path)
        remove_temporaries(self._states)
        for path in self._damaged:
            remove_folder(path)
        self._damaged = []
        prune(self._states, self.keep, self.keep_every)  # what one that was killed had no time for
        path = state_path(self._states, step)
        if not path.exists():
            write_state(path, self._run["id"], self._log.mark(), tensors, numbers)
        prune(self._states, self.keep, self.keep_every)

    def log(self, line: dict) -> None:
        """Adds a line to the log. Raises OSError with the file's name."""
        first(lambda: self._log.append(line))

    def history(self) -> list[dict]:
        """All lines of the log; numbers that were not finite are None."""
        return first(self._log.lines)

    def save_model(self, model, step: int) -> None:
        """`checkpoint.save` into the folder."""
        first(lambda: checkpoint.save(model, self.path, extra=self._extra(step)))

    def save_best(self, model, step: int) -> None:
        """`checkpoint.save` into RUN/best."""
        first(lambda: checkpoint.save(model, self.path / "best", extra=self._extra(step)))

    def finish(self) -> None:
        """Marks the run as done."""
        first(lambda: self._write(self._run | {"finished": self._run["settings"]["steps"]}))

    def _extra(self, step: int) -> dict:
        settings = self._run["settings"]
        return {"step": step} | {name: settings[name] for name in REPEATED if name in settings}

    def _write(self, content: dict) -> None:
        if content != self._run:
            run_file.write_run(self.path, content)
            self._run = content

    def _found(self, description: dict) -> tuple[dict | None, Start, dict | None, list]:
        """run.json, where the run begins, how far the log had come then, and damaged states with what is wrong."""
        run = self._there()
        if run is None:
            return None, Start(), None, []
        found, damaged = states(self._states), []
        if not found:
            return run, self._again(), None, []
        if rows := differences(run, description):
            raise ValueError(
                f"out must be a new folder, or hold this run; got {self.path}, which holds another one:\n{table(rows)}"
                "\npass another folder, or what is there"
            )
        for path in found:
            try:
                step, mark, tensors, numbers = read_state(path, run["id"])
            except CorruptCheckpoint as error:
                damaged.append((path, error))
            else:
                finished, words = self._progress(step, run, description["settings"])
                return run, Start(step, tensors, numbers, finished, words), mark, damaged
        error = damaged[0][1]
        raise CorruptCheckpoint(f"{self._states} holds no whole state, out of {len(found)}: {error}") from error

    def _there(self) -> dict | None:
        """run.json; None where there is nothing. Raises FileExistsError if something else is there."""
        names = sorted(path.name for path in self.path.iterdir() if not _is_nothing(path))
        if not names:
            return None
        if not self.resume:
            raise FileExistsError(
                f"out must be an empty folder with resume=False; got {self.path}, which holds {_some(names)}"
            )
        if run_file.FILE not in names:
            raise FileExistsError(
                f"out must be an empty folder, or that of a run; got {self.path}, which holds {_some(names)} and no "
                f"{run_file.FILE}: pass another folder, or move that away"
            )
        return run_file.read_run(self.path)

    def _again(self) -> Start:
        """A new start of a run that left no state."""
        if (self.path / "model.json").exists():
            raise CorruptCheckpoint(
                f"{self._states} holds no state, although there was one: gf.load({str(self.path)!r}) reads the model; "
                "pass another folder to train anew"
            )
        return Start(words=f"{self.path} holds a run that was not saved before it ended: it starts anew")

    def _progress(self, step: int, run: dict, settings: dict) -> tuple[bool, str]:
        """Whether the run is done, and what there is to say."""
        before, steps = run["settings"]["steps"], settings["steps"]
        if steps > before:
            return False, (
                f"{self.path} goes on from step {step:,}, with {steps:,} steps instead of {before:,}: from here on the "
                "learning rate is that of the longer run"
            )
        if run["finished"] == step == steps:
            return True, f"{self.path} holds this run, finished after {steps:,} steps"
        return False, f"{self.path} goes on from step {step:,} of {steps:,}"


def _is_nothing(path: Path) -> bool:
    """Whether it may be there before a run: hidden, TensorBoard's, or a folder of such alone."""
    if path.name.startswith(".") or EVENTS.match(path.name):
        return True
    return path.is_dir() and not path.is_symlink() and all(map(_is_nothing, path.iterdir()))


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
