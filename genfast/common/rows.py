"""Arrays of more rows than memory has room for, written by one process or by several."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from . import processes
from .files import flush, flushed, remove_temporaries, temporary


@contextlib.contextmanager
def written(path: Path, shape: Sequence[int], rows: Iterable[tuple[int, np.ndarray]]) -> Iterator[Path]:
    """Inside it there is a .npy of `shape`, float32, beside `path`, to be moved there, to be read, or to be gone at the
    end; in every process.

    rows: (position of the first, values (n, *)) of those that this process has, which it writes to their place.
    Where one process fails, all do; an OSError has the name `path`. What killed ones left of such a file goes.
    """
    header = {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)}

    def begin() -> tuple[Path, int]:
        remove_temporaries(path.parent, of={path.name})
        with named(path), flushed(waiting := temporary(path)) as file:
            np.lib.format.write_array_header_1_0(file, header)
            return waiting, file.tell()

    def write() -> None:
        with named(path), open(waiting, "r+b") as file:
            for position, values in rows:
                values = np.ascontiguousarray(values, "<f4")
                file.seek(start + position * values[0].nbytes)
                file.write(values.data)
            file.flush()
            os.fsync(file.fileno())

    waiting, start = processes.first(begin)
    try:
        processes.together(write)
        yield waiting
    finally:
        waiting.unlink(missing_ok=True)


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file to be written to, which takes the place of what is there at the end, or not at all. Raises OSError with
    its name."""
    waiting = temporary(path)
    try:
        with named(path), flushed(waiting) as file:
            yield file
        replace(waiting, path)
    finally:
        waiting.unlink(missing_ok=True)


def replace(waiting: Path, path: Path) -> None:
    """The file `waiting`, flushed, under the name `path`. Raises OSError with that name."""
    with named(path):
        os.replace(waiting, path)
    flush(path.parent)


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Inside it an OSError is about this path."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
