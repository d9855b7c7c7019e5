"""Ctrl-C and SIGTERM that wait for the end of a step, so that what is saved is whole."""

import contextlib
import signal
import threading
from collections.abc import Iterator

ORDERLY = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Notes a signal while it is `held`; a second one acts at once, but where it comes more than `once`: torchrun sends
    each process again what the terminal has sent to all. Only in the main thread; elsewhere, and where it is ignored, a
    signal does what it always does."""

    def __init__(self, active: bool, once: bool = False):
        self.active, self.once = active and threading.current_thread() is threading.main_thread(), once
        self.caught: int | None = None
        self.told = False  # whether `news` has told it
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
        if self.caught is not None and not self.once:
            self.act(self.caught)
        self.caught = number if self.caught is None else self.caught

    def news(self) -> int:
        """The signal that was noted, told once; else 0."""
        if self.caught is None or self.told:
            return 0
        self.told = True
        return self.caught

    def act(self, number: int) -> None:
        """Does what the signal means, unless it is 0: a handler of the caller's is called, and may return; without one
        KeyboardInterrupt, or SystemExit with 128 + its number."""
        handler = self.before.get(number)
        if callable(handler) and handler is not signal.default_int_handler:
            self.caught, self.told = None, False
            handler(number, None)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        elif number:
            raise SystemExit(128 + number)
