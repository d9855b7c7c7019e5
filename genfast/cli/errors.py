"""What the command says where something goes wrong, and the code that it exits with."""

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

FAILED, USAGE = 1, 2
INTERRUPTED, BROKEN_PIPE, TERMINATED = 130, 141, 143  # as shells have them, 128 + the signal
PLAIN = (ValueError, TypeError, OSError, ImportError, RuntimeError, ArithmeticError)  # whose text says what it is


class UsageError(Exception):
    """The command line itself is wrong."""


@contextlib.contextmanager
def usage() -> Iterator[None]:
    """Inside it arguments are checked: what is wrong with them is wrong with the command line."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error


@contextlib.contextmanager
def going_on(saved: Callable[[], str | None]) -> Iterator[None]:
    """Inside it what stops the command, Ctrl-C or SIGTERM, is followed by a sentence on stderr: what is `saved`, unless
    that is None, and the command that goes on from there."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if words := saved():
            ranks = os.environ.get("WORLD_SIZE", "1")
            command = ["genfast"] if ranks == "1" else ["torchrun", "--nproc-per-node", ranks, "-m", "genfast"]
            again = shlex.join([*command, *(word for word in sys.argv[1:] if word != "--no-resume")])
            print(f"{words}; what goes on from there: {again}", file=sys.stderr)
        raise


@contextlib.contextmanager
def reported(name: str) -> Iterator[None]:
    """Inside it an error ends the process with one sentence on stderr, after the name: with 2 for a `UsageError`, 130
    for Ctrl-C, 143 for SIGTERM, without a word where nobody reads the output any more, with 1 otherwise.
    GENFAST_TRACEBACK=1 lets it through."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
            _flush()  # now, while it can still be said that it fails
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("GENFAST_TRACEBACK") == "1":
            raise
        sys.exit(_said(name, error))


def _terminate(number: int, frame: object) -> NoReturn:
    """SIGTERM as Ctrl-C: what is open is closed, and temporary files go."""
    sys.exit(TERMINATED)


def _said(name: str, error: BaseException) -> int:
    """Says what the error is, and answers with the exit code."""
    if isinstance(error, OSError):
        _drop_output()
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    words = str(error).strip()
    if "\n    " not in words:  # no table
        words = " ".join(words.split())
    if not words or not isinstance(error, (*PLAIN, UsageError)):
        words = f"{type(error).__name__}: {words}" if words else type(error).__name__
    print(f"{name}: {words}", file=sys.stderr)
    return USAGE if isinstance(error, UsageError) else FAILED


def _flush() -> None:
    if sys.stdout is not None:  # as it is where it was closed before
        sys.stdout.flush()


def _drop_output() -> None:
    """Where the output cannot be written, Python would say so once more at its end."""
    try:
        _flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
