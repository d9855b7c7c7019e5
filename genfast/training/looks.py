"""What is looked at while a run goes on: the device's numbers, held-out data, pictures, averages; and the log of it."""

import time
from collections.abc import Callable

from torch import Tensor

from ..common.processes import first
from ..data.dataset import Data
from . import state
from .grids import draw_grid
from .held_out import HeldOut
from .logs import LogLine, memory
from .run_folder import RunFolder
from .settings import Settings
from .step import Batch, Step
from .tally import Reading

FIRST = 20  # steps between two looks at the device before the first log
WATCHES = 40  # looks of `model.watch` at a run, at least
SNAPSHOTS = 32  # of the averages in a run
PATIENCE = 20  # steps in a row without a finite gradient: fewer are accidents, so many a broken run


class Looks:
    """Looks at a run after each step, as far as something is due, and at the clock. Of several processes the first one
    looks at the model, and tells the others what it has seen.

    held: held-out data, or None.  folder: where the log and pictures go, or None.
    """

    def __init__(
        self, model, settings: Settings, step: Step, data: Data, held: HeldOut | None, folder: RunFolder | None
    ):  # fmt: skip
        self.settings, self.step, self.data, self.held, self.folder = settings, step, data, held, folder
        self.model = model
        if held is not None and settings.test_every is None:
            settings.test_every = held.apart(settings.steps, settings.samples_a_step)
        self.watch_every = max(1, min(settings.log_every, settings.steps // WATCHES))
        self.snapshot_every = max(1, settings.steps // SNAPSHOTS)
        self.seconds = self.data_wait = self.begun = 0.0
        self.logged = (0, 0.0)  # step and seconds of the last log
        self.watched = {}  # what the model last said of itself
        self.undone: dict | None = None  # `state` before the looks of a step, until they are done

    def begin(self) -> None:
        """A step begins."""
        self.begun = time.perf_counter()

    def fed(self) -> None:
        """Its samples are there."""
        self.data_wait += time.perf_counter() - self.begun

    def keep(self) -> None:
        """`state` is what it is now until the looks of this step are done: who goes on then does them again."""
        self.undone = self.state()

    def due(self, number: int, lr: float, last: Callable[[], tuple[Batch, Tensor]]) -> LogLine | None:
        """After step `number`, at this lr, the last of whose batches, all of it, `last` answers with its key; a log, if
        that is due."""
        settings = self.settings
        end = number == settings.steps
        looking = self.held is not None and (end or number % settings.test_every == 0)
        due = looking or end or number % settings.log_every == 0
        if hasattr(self.model, "watch") and (due or number % self.watch_every == 0):
            self._watch(last)
        early = self.logged[0] == 0 and number % FIRST == 0
        reading = self.require_progress(number, PATIENCE) if due or early else None
        found = self._held_out(number) if looking else {}
        if self.folder is not None:
            self._draw(number)
        self.seconds += time.perf_counter() - self.begun
        log = self._log(number, reading, lr, found) if due else None
        self.undone = None
        return log

    def read(self) -> Reading:
        """What the device has counted. Raises FloatingPointError if weights are not finite any more."""
        reading = self.step.tally.read()
        if reading.broken:
            self.step.torn = True
            raise FloatingPointError(
                f"weights are not finite after step {reading.broken}, at lr "
                f"{self.settings.learning_rate(reading.broken - 1):g}; lower lr or weight_decay: what is kept is the "
                "average of the steps before"
            )
        return reading

    def require_progress(self, number: int, most: int) -> Reading:
        """`read`, after step `number`, with a FloatingPointError also if as many as `most` on end were skipped."""
        reading = self.read()
        if reading.in_row < most:
            return reading
        where = "" if reading.parameter < 0 else f" (first in {self.step.names()[reading.parameter]})"
        null = "" if self.data.condition is None else "; a network must take a condition of NaN, which is null"
        raise FloatingPointError(
            f"no finite gradient{where} in {reading.in_row} steps on end, until step {number}; lower lr, or look for "
            f"samples whose loss is not finite, or makes a buffer NaN{null}"
        )

    def state(self) -> dict:
        """What a resumed run needs, for JSON: `load` takes it."""
        if self.undone is not None:
            return self.undone | {"done": False}
        held = None if self.held is None else self.held.state()
        clock = {"seconds": self.seconds, "data_wait": self.data_wait, "logged": list(self.logged)}
        own = self.model.watch_state() if hasattr(self.model, "watch_state") else None
        return clock | {"watched": self.watched, "own": own, "held": held, "done": True}

    def load(self, state: dict) -> None:
        """Goes on from `state()` of another one."""
        self.seconds, self.data_wait = state["seconds"], state["data_wait"]
        self.logged, self.watched = tuple(state["logged"]), state["watched"]
        if self.held is not None and state["held"] is not None:
            self.held.load(state["held"])
        if state["own"] is not None:
            self.model.load_watch_state(state["own"])
        self.undone = None if state["done"] else state

    def _watch(self, last: Callable[[], tuple[Batch, Tensor]]) -> None:
        remembers = hasattr(self.model, "watch_state")

        def watch() -> tuple[dict, dict | None]:
            return self.model.watch(*last()), self.model.watch_state() if remembers else None

        with self.step.trained():
            self.watched, own = first(watch)
        if remembers:
            self.model.load_watch_state(own)

    def _held_out(self, number: int) -> dict:
        def look() -> dict:
            found = self.held.look(number)
            if self.held.best and self.folder is not None:
                self.folder.save_best(self.model, number)
            return found

        with self.step.averaged():
            return first(look)

    def _draw(self, number: int) -> None:
        """A snapshot of the averages, and a picture of samples, as far as they are due."""
        last = number == self.settings.steps
        if len(self.settings.ema) > 1 and (last or number % self.snapshot_every == 0):
            updates = self.read().updates
            if updates:  # without one there is no average
                folder, names, averages = self.folder.path / "averages", self.step.names(), state.averages(self.step)
                first(lambda: self.step.averages.snapshot(folder, updates, names, averages))
        if number % self.settings.grid_every == 0:
            path = self.folder.path / "samples" / f"{number:08d}.png"
            with self.step.averaged():
                first(lambda: draw_grid(self.model, path, data=self.data))

    def _log(self, number: int, reading: Reading, lr: float, found: dict) -> LogLine:
        steps, seconds = number - self.logged[0], self.seconds - self.logged[1]
        log: LogLine = {
            "step": number,
            "samples": number * self.settings.samples_a_step,
            "loss": sum(reading.losses),
            "grad_norm": reading.norm,
            "lr": lr,
            "skipped": reading.skipped,
            "seconds": self.seconds,
            "samples_per_second": steps * self.settings.samples_a_step / seconds,
            "data_wait": self.data_wait / seconds,
            "memory": memory(self.step.device),
        }
        names = self.step.players
        log |= {f"{name}_loss": mean for name, mean in zip(names, reading.losses) if name is not None}
        log |= self.watched | found
        if self.folder is not None:
            self.folder.log(log)
        self.step.tally.logged()
        self.logged, self.data_wait = (number, self.seconds), 0.0
        return log
