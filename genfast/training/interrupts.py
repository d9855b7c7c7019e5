"""Ctrl-C and SIGTERM that wait for the end of a step, so that what is saved is whole."""

import contextlib
import signal
import threading
from collections.abc import Iterator

ORDERLY = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Notes a signal while it is `held`; a second one acts at once. Only in the main thread; elsewhere, and where it is
    ignored, a signal does what it always does."""

    def __init__(self, active: bool):
        self.active = active and threading.current_thread() is threading.main_thread()
        self.caught: int | None = None
        self.before = {}  # signal -> who is told of it outside

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Inside it a first signal is noted only. What was there before is there again afterwards."""
        found = {number: signal.getsignal(number) for number in ORDERLY} if self.active else {}
        # Ignored is, by a shell, the Ctrl-C of a run in the background; None is what C has set, and cannot be put back.
        self.before = {n: handler for n, handler in found.items() if handler not in (signal.SIG_IGN, None)}
        try:
            for number in self.before:
                signal.signal(number, self._note)
            yield
        finally:
            for number, handler in self.before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        if self.caught is not None:
            self.act()
        self.caught = number

    def act(self) -> None:
        """Does what the signal that was noted means: a handler of the caller's is called, and may return; without one
        KeyboardInterrupt, or SystemExit with 128 + its number."""
        handler = self.before.get(self.caught)
        if callable(handler) and handler is not signal.default_int_handler:
            number, self.caught = self.caught, None
            handler(number, None)
        elif self.caught == signal.SIGINT:
            raise KeyboardInterrupt
        elif self.caught is not None:
            raise SystemExit(128 + self.caught)
