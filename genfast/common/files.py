"""Files that are whole or not there at all, and folders that take them."""

import contextlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import BinaryIO

import safetensors.torch
import torch

# Of files that hold what a folder is asked for: whoever names one means a file.
SUFFIXES = {".bin", ".ckpt", ".h5", ".json", ".npz", ".onnx", ".pickle", ".pkl", ".pt", ".pth", ".safetensors", ".tar"}

TEMPORARY = re.compile(r"\..+\.[0-9]+-[0-9a-f]{8}\.tmp")  # what `temporary` makes of names


class CorruptCheckpoint(RuntimeError):
    """A file of a checkpoint is damaged, missing, or not what genfast writes; the message names it."""


def write_file(path, data):
    """Replace the file by these bytes, or fail and leave it as it is; see `write_files`."""
    write_files({path: data})


def write_files(contents):
    """Replace files of one folder, path -> bytes, in their order; or fail and leave those that are not yet replaced.

    All are written beside what they replace, under names of `temporary`, and flushed to the disk before the first
    rename, then the folder is flushed, so that a power cut cannot leave a new name with old or no content. Raises
    OSError with the file's name.
    """
    temporaries = {}  # path -> where its bytes wait
    path = None
    try:
        for path, data in contents.items():
            path = Path(path)
            temporaries[path] = temporary(path)
            with flushed(temporaries[path]) as file:
                file.write(data)
        for path, waiting in temporaries.items():
            os.replace(waiting, path)
    except BaseException as error:
        for waiting in temporaries.values():
            with contextlib.suppress(OSError):
                waiting.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    flush(path.parent)


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """A folder that is not there yet, all of it or nothing: `fill` writes its files, flushed, into the folder that it
    is given, which then gets its name in one rename. Raises OSError with the name of file or folder."""
    waiting = temporary(path)
    try:
        os.mkdir(waiting)
        fill(waiting)
        flush(waiting)
        os.rename(waiting, path)
    except BaseException as error:
        shutil.rmtree(waiting, ignore_errors=True)
        if isinstance(error, OSError):
            name = str(error.filename or path).replace(str(waiting), str(path))
            raise OSError(error.errno, error.strerror, name) from error
        raise
    flush(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder and all in it, so that a killed process leaves all of it, or nothing under this name."""
    waiting = temporary(path)
    os.rename(path, waiting)
    shutil.rmtree(waiting, ignore_errors=True)


def remove_temporaries(folder: Path, besides: tuple[str, ...] = (), of: Container[str] | None = None) -> None:
    """Remove what killed processes left in the folder under names of `temporary`, unless these begin with one of
    `besides`, or are not those of a name among `of`; nobody else may be writing there, or to these names."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in [path for path in folder.iterdir() if TEMPORARY.fullmatch(path.name)]:
            if path.name.startswith(besides) or (of is not None and path.name[1:].rsplit(".", 2)[0] not in of):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def flushed(path: Path) -> Iterator[BinaryIO]:
    """A new file, to be written to, which is on the disk at the end. Raises OSError with its name."""
    try:
        with open(path, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:  # a full disk does not say which file it was
        raise OSError(error.errno, error.strerror, str(path)) from error


def temporary(path: Path) -> Path:
    """A name beside the path that nobody else has, `.<name>.<unique>.tmp`."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def flush(path: Path) -> None:
    """Make what is in the file, or the names in the folder, outlast a power cut. Raises OSError with its name."""
    try:
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def append_line(path, line):
    """Add a line to the file, all of it or nothing. Raises OSError with the file's name."""
    data = f"{line}\n".encode()
    try:
        with open(path, "ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                while data:
                    data = data[file.write(data) :]
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(end)
                raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def read_tensors(content):
    """The tensors in the bytes of a safetensors file, by name, on the CPU, whatever torch's default device is."""
    with torch.device("cpu"):
        return safetensors.torch.load(content)


def as_path(name, path):
    """The path, or TypeError, which names the argument."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name} must be a path; got {type(path).__name__}")
    return Path(path)


def folder_path(name, path):
    """The path of a folder, there or to be made. Raises ValueError, which names the argument, for that of a file."""
    folder = as_path(name, path)
    if folder.suffix.lower() in SUFFIXES and not folder.is_dir():
        raise ValueError(f"{name} must be a folder, which is made if need be; got {folder}, the name of a file")
    return folder


def made_folder(name, path):
    """The folder, made if need be. Raises as `folder_path` does, and OSError, which names argument and folder."""
    folder = folder_path(name, path)
    with _named(name, folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def writable_folder(name, path):
    """The folder, made if need be, after a trial: to be known before the work whose result is to go there. Raises as
    `made_folder` does, also if nothing can be written there."""
    folder = made_folder(name, path)
    trial = temporary(folder / "genfast")
    with _named(name, folder), open(trial, "wb"):
        trial.unlink()
    return folder


@contextlib.contextmanager
def _named(name, folder):
    """Inside it an OSError says whose folder it is about."""
    try:
        yield
    except OSError as error:
        words = f"{name} must be a folder that can be written to; got {folder}: {error.strerror}"
        raise OSError(error.errno, words) from error


def to_json(value, **options):
    """JSON as everybody reads it: numbers that are not finite, which it does not have, are null."""
    return json.dumps(_finite(value), allow_nan=False, **options)


def _finite(value):
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
