"""One writer per folder: an advisory lock on the file `.lock` in it, which the kernel frees when its process dies.

The file stays, empty of meaning once nobody holds it; what it says, process and host, is for the message alone.
Readers take no lock. A forked child does not hold what its parent does.
"""

import contextlib
import fcntl
import os
import socket
import threading
import time
import warnings
from pathlib import Path

WAIT = 60.0  # seconds that a writer waits for another one
PAUSE = 0.005  # seconds between two tries

_guard = threading.RLock()  # of what follows; the garbage collector may close a run, and so come here, at any time
_holds = {}  # (device, inode) of a folder -> the _Hold of this process
_warned = set()  # devices that were said to know no locks


class _Hold:
    """What this process holds of a folder: a run, in which it may write, or a single write, or both."""

    def __init__(self, file, exclusive):
        self.file, self.exclusive = file, exclusive
        self.run = self.writing = False


@contextlib.contextmanager
def run_in(folder):
    """Holds the folder, which exists, for a run; writes of this process, in any thread, go on inside it.

    Raises BlockingIOError at once, with process and host, if another run or writer holds it.
    """
    with _holding(Path(folder), "run", 0.0):
        yield


@contextlib.contextmanager
def write_in(folder):
    """Holds the folder, which exists, for one write, after waiting for other writers; for 60 s at most.

    Answers whether others are truly kept out: not where the file system knows no locks, which is said once.
    Raises TimeoutError with process and host of who holds it.
    """
    with _holding(Path(folder), "writing", WAIT) as hold:
        yield hold.exclusive


@contextlib.contextmanager
def _holding(folder, purpose, wait):
    end = time.monotonic() + wait
    while (found := _try(folder, purpose)) is None:
        if time.monotonic() >= end:
            kind, waited = (TimeoutError, f", for {wait:g} s now") if wait else (BlockingIOError, "")
            raise kind(f"{folder} is being written to by {_holder(folder)}{waited}: wait for it, or use another folder")
        time.sleep(PAUSE)
    key, hold = found
    try:
        yield hold
    finally:
        with _guard:
            setattr(hold, purpose, False)
            if _holds.get(key) is hold and not (hold.run or hold.writing):  # it is not, in a forked child
                del _holds[key]
                hold.file.close()


def _try(folder, purpose):
    """The key of the folder and the _Hold, now held for this purpose too; None if somebody else has it."""
    with _guard:
        status = os.stat(folder)
        key = status.st_dev, status.st_ino
        hold = _holds.get(key)
        if hold is None:
            hold = _lock(folder, status.st_dev)
            if hold is None:
                return None
            _holds[key] = hold
        elif purpose == "run" or hold.writing:
            return None
        setattr(hold, purpose, True)
        return key, hold


def _lock(folder, device):
    """A _Hold of the folder with the lock of the kernel; None if another process has that."""
    path = folder / ".lock"
    try:
        file = open(path, "rb+", buffering=0, opener=_open)  # noqa: SIM115
    except PermissionError:  # a file of another user, in a folder of both
        file = open(path, "rb", buffering=0)  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError as error:
        if device not in _warned:
            _warned.add(device)
            message = f"{folder} cannot be locked ({error.strerror}): see to it that nothing else writes there"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        return _Hold(file, exclusive=False)
    try:
        same = os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        same = False
    if not same:  # the folder was emptied meanwhile: this is the lock of nothing
        file.close()
        return None
    with contextlib.suppress(OSError):  # a full disk
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        file.truncate()
    return _Hold(file, exclusive=True)


def _open(path, flags):
    return os.open(path, flags | os.O_CREAT, 0o666)


def _holder(folder):
    """Who holds the folder, in words."""
    try:
        words = (folder / ".lock").read_text(errors="replace")[:200].strip()
    except OSError:
        words = ""
    return words or "another process"


def _forget():
    """In a forked child: the locks are the parent's, and must be free when that dies."""
    global _guard
    _guard = threading.RLock()
    for hold in _holds.values():
        hold.file.close()  # which frees nothing while the parent has the file open
    _holds.clear()


os.register_at_fork(before=lambda: _guard.acquire(), after_in_parent=lambda: _guard.release(), after_in_child=_forget)
