"""Ctrl-C and SIGTERM that wait for the end of a step, so that what is saved is whole."""

import contextlib
import signal
import threading
from collections.abc import Iterator

ORDERLY = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Notes a signal while it is `held`; a second one acts at once. Only in the main thread; elsewhere signals do what
    they always do."""

    def __init__(self, active: bool):
        self.active = active and threading.current_thread() is threading.main_thread()
        self.caught: int | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Inside it a first signal is noted only. What was there before is there again afterwards."""
        before = {number: signal.signal(number, self._note) for number in ORDERLY} if self.active else {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        if self.caught is not None:
            self.act()
        self.caught = number

    def act(self) -> None:
        """Raises what the signal that was noted means: KeyboardInterrupt, or SystemExit with 128 + its number."""
        if self.caught == signal.SIGINT:
            raise KeyboardInterrupt
        if self.caught is not None:
            raise SystemExit(128 + self.caught)
