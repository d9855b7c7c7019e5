"""Data from files and folders."""

import zipfile
from pathlib import Path

import numpy as np

from ..common.checks import require_choice, require_integer
from ..common.files import as_path, read_tensors
from ..common.memory import gigabytes
from ..common.warn import warn_user
from .builtin import digits
from .columns import as_names
from .dataset import arrays
from .emoji import emoji
from .folder import BROKEN, folder, some
from .layout import LAYOUTS
from .toy import toy

MAPPED = 2**30  # bytes beyond which an array of samples is mapped, not read
# What the arrays of a file may be called, by the argument of Data.
COLUMNS = {"x": ("x", "images", "arr_0"), "label": ("label", "labels", "y"), "condition": ("condition",)}
NAMED = {"digits": digits, "emoji": emoji}  # whose splits are "digits:train" and so on

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def load(path, size=None, channels=None, names=None, broken="raise", layout=None):
    """Data from a file, a folder or a name.

    "digits", "digits:train" or "digits:test": see `digits`.  "emoji", "emoji:train" or "emoji:test": see `emoji`, with
    its size.  "toy:moons" and the like: see `toy`.  A folder: see `folder`, with its size, channels, names and broken.
    .npy: x.  .npz, .safetensors: x under the name "x", "images" or "arr_0" and, where there are any, label under
    "label", "labels" or "y" and condition under "condition"; a UserWarning names other arrays. x: (N, *) floating-point
    as it is, or images in uint8, with their channels where `layout` says, see `arrays`. Beyond 1 GiB it is mapped into
    memory, and read as it is asked for; of an .npz that is compressed all is read, with a UserWarning.
    names     of the classes of a file, in the order of their numbers
    Raises FileNotFoundError if there is nothing, ValueError or TypeError saying what is wrong with the file.
    """
    size = None if size is None else require_integer("size", size, 1)
    channels = require_choice("channels", channels, (None, 1, 3))
    broken = require_choice("broken", broken, BROKEN)
    layout = require_choice("layout", layout, LAYOUTS)
    toys = isinstance(path, str) and path.startswith("toy:")
    if layout is not None and (is_named(path) or toys or Path(path).is_dir()):
        raise ValueError(f"layout must be None but for arrays of a file; got {layout} for {path}")
    if is_named(path):
        name, _, split = path.partition(":")
        if path == name and Path(path).exists():
            raise ValueError(
                f'path: "{name}" names data, and there is a path {name}, too; say ./{name} or {name}:train'
            )
        sized = {} if size is None or name == "digits" else {"size": size}
        return _named(NAMED[name](split=split or None, **sized), names)
    if toys:
        return _named(toy(path.removeprefix("toy:")), names)
    path = as_path("path", path)
    if path.is_dir():
        return folder(path, size, channels, names, broken)
    if not path.exists():
        raise FileNotFoundError(f"path: there is no file {path}")
    readers = {".npy": _read_npy, ".npz": _read_npz, ".safetensors": _read_safetensors}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f'path must be "digits", "emoji", a folder, or a file {", ".join(readers)}; got {path}')
    try:
        columns = reader(path)
    except Exception as error:  # each format has errors of its own
        raise ValueError(f"path: {path} cannot be read: {error}") from error
    found = {argument: _column(columns, argument, path) for argument in COLUMNS}
    if unknown := sorted(columns.keys() - {name for choices in COLUMNS.values() for name in choices}):
        warn_user(f"path: arrays in {path} were passed over: {some(unknown)}")
    try:
        return _named(arrays(**found, layout=layout), names)
    except (TypeError, ValueError) as error:
        raise type(error)(f"path: {path}: {error}") from error


def is_named(path):
    """Whether the path is the name of data, "digits" or "emoji:test", whatever files there are."""
    return isinstance(path, str) and path.partition(":")[0] in NAMED


def _named(data, names):
    """Data whose classes have these names, if there are any."""
    if names is None:
        return data
    if data.label is None:
        raise ValueError(f"names must be None for data without labels; got {names!r}")
    names = as_names(names)
    if len(names) < data.classes:
        raise ValueError(f"names must be at least {data.classes}, one a class; got {len(names)}")
    return data.replace(classes=len(names), names=names)


def _column(columns, argument, path):
    """The array for an argument of Data; None if it may be absent and is."""
    choices = COLUMNS[argument]
    found = [name for name in choices if name in columns]
    if len(found) > 1 or (argument == "x" and not found):
        wanted = " or ".join(f'"{name}"' for name in choices)
        raise ValueError(f"path must hold one array called {wanted}; got {sorted(columns)} in {path}")
    return columns[found[0]] if found else None


def _read_npy(path):
    large = path.stat().st_size > MAPPED
    return {"x": np.load(path, mmap_mode="r" if large else None, allow_pickle=False)}


def _read_safetensors(path):
    return read_tensors(path.read_bytes())


def _read_npz(path):
    columns = {}
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            large = name in COLUMNS["x"] and f"{name}.npy" in file.zip.namelist()
            entry = file.zip.getinfo(f"{name}.npy") if large else None
            columns[name] = file[name] if entry is None or entry.file_size <= MAPPED else _mapped(path, entry)
    return columns


def _mapped(path, entry):
    """The array of a member of an .npz as a memory map; one that is compressed, in memory."""
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        if entry.compress_type != zipfile.ZIP_STORED:
            size = gigabytes(entry.file_size)
            warn_user(f"path: {entry.filename} in {path} is compressed: all of it is read, {size}; np.savez maps")
            return np.load(path, allow_pickle=False)[entry.filename.removesuffix(".npy")]
        with archive.open(entry) as member:
            shape, fortran, dtype = HEADERS[np.lib.format.read_magic(member)](member)
            header = member.tell()
        file.seek(entry.header_offset + 26)  # lengths of a name and of more, after 26 of 30 bytes
        before = 30 + sum(int.from_bytes(file.read(2), "little") for _ in range(2))
    if dtype.hasobject:
        raise ValueError("it holds objects")
    return np.memmap(path, dtype, "r", entry.header_offset + before + header, shape, "F" if fortran else "C")
