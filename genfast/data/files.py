"""Data from files and folders."""

import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import torch

from ..common.checks import require_choice, require_integer
from ..common.files import as_path, read_tensors
from ..common.warn import warn_user
from .builtin import digits
from .columns import as_names
from .dataset import Data
from .pixels import read_image, readable
from .toy import toy

# What the arrays of a file may be called, by the argument of Data.
COLUMNS = {"x": ("x", "images", "arr_0"), "label": ("label", "labels", "y"), "condition": ("condition",)}


def folder(path, size=None, channels=None, names=None):
    """The images below a folder, in the order of their paths: x (N, C, H, W) in [-1, 1], pixel / 127.5 - 1 of 8-bit
    images and pixel / 32767.5 - 1 of 16-bit ones; 256 levels, or 65,536 where there is a 16-bit one.

    Where they lie in subfolders these are the classes, `Data.names`: sorted as numbers where all are numbers, as text
    otherwise. Links are followed, but not in circles. All that Pillow reads is read: the first picture of a file, as
    turned by its camera, transparent ones laid on white. Palettes are gray where the image shows grays only, RGB files
    are color. Other files, broken links and empty folders are passed over with a UserWarning; hidden ones without.
    size      None if all have one size already; otherwise the middle square of each is made size x size, by Pillow's
              bicubic filter, which averages when it shrinks
    channels  1 for gray, 3 for color; None for gray if all of them are
    names     the classes in another order, or more of them
    Raises ValueError naming the first file that cannot be read, has another size, or lies beside the subfolders, and
    the subfolders that are not in `names`.
    """
    size = None if size is None else require_integer("size", size, 1)
    channels = require_choice("channels", channels, (None, 1, 3))
    root = as_path("path", path)
    if not root.is_dir():
        raise NotADirectoryError(f"path must be a folder; got {path}")
    files, passed = (sorted(file.relative_to(root) for file in found) for found in _below(root, {root.resolve()}))
    if not files:
        raise ValueError(f"path: {path} holds no images{f', but {_some(passed)}' if passed else ''}")
    classes = {file.parts[0] for file in files if len(file.parts) > 1}
    if classes and (loose := [file for file in files if len(file.parts) == 1]):
        raise ValueError(f"path: {path} holds classes in subfolders, but {loose[0]} lies beside them")
    names = _class_names(classes, names)
    if passed:
        total = len(files) + len(passed)
        warn_user(f"path: {len(passed)} of {total} files below {path} were passed over, as no images: {_some(passed)}")
    images = [read_image(root / file, size, channels) for file in files]
    for file, image in zip(files, images):
        if image.shape[1:] != images[0].shape[1:]:
            (height, width), (h, w) = images[0].shape[1:], image.shape[1:]
            raise ValueError(
                f"path: {file} has {w} x {h} pixels, {files[0]} had {width} x {height}; size= makes them equal squares"
            )
    depth = channels or max(len(image) for image in images)
    x = np.empty((len(images), depth, *images[0].shape[1:]), np.float32)
    for row, image in zip(x, images):
        row[:] = image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max / 2) - 1
    levels = max(np.iinfo(image.dtype).max for image in images) + 1
    if names is None:
        return Data(torch.from_numpy(x), levels=levels)
    label = np.array([names.index(file.parts[0]) for file in files])
    return Data(torch.from_numpy(x), torch.from_numpy(label), len(names), names=names, levels=levels)


def load(path, size=None, channels=None, names=None):
    """Data from a file, a folder or a name.

    "digits", "digits:train" or "digits:test": see `digits`.  "toy:moons" and the like: see `toy`.  A folder: see
    `folder`, with its size, channels and names.
    .npy: x.  .npz, .safetensors: x under the name "x", "images" or "arr_0" and, where there are any, label under
    "label", "labels" or "y" and condition under "condition"; a UserWarning names other arrays. x: (N, *) floating-point
    as it is, or images in uint8, see `Data`.
    names     of the classes of a file, in the order of their numbers
    Raises FileNotFoundError if there is nothing, ValueError or TypeError saying what is wrong with the file.
    """
    size = None if size is None else require_integer("size", size, 1)
    channels = require_choice("channels", channels, (None, 1, 3))
    if isinstance(path, str) and path.partition(":")[0] == "digits":
        if path == "digits" and Path(path).exists():
            raise ValueError('path: "digits" names data, and there is a path digits, too; say ./digits or digits:train')
        return _named(digits(path.partition(":")[2] or None), names)
    if isinstance(path, str) and path.startswith("toy:"):
        return _named(toy(path.removeprefix("toy:")), names)
    path = as_path("path", path)
    if path.is_dir():
        return folder(path, size, channels, names)
    if not path.exists():
        raise FileNotFoundError(f"path: there is no file {path}")
    readers = {".npy": _read_npy, ".npz": _read_npz, ".safetensors": _read_safetensors}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f'path must be "digits", a folder, or a file {", ".join(readers)}; got {path}')
    try:
        columns = {name: _native(column) for name, column in reader(path).items()}
    except Exception as error:  # each format has errors of its own
        raise ValueError(f"path: {path} cannot be read: {error}") from error
    found = {argument: _column(columns, argument, path) for argument in COLUMNS}
    if unknown := sorted(columns.keys() - {name for choices in COLUMNS.values() for name in choices}):
        warn_user(f"path: arrays in {path} were passed over: {_some(unknown)}")
    try:
        return _named(Data(**found), names)
    except (TypeError, ValueError) as error:
        raise type(error)(f"path: {path}: {error}") from error


def _below(folder, above):
    """Images, and what else there is, below a folder that lies in the folders `above`."""
    images, passed, endings = [], [], readable()[1]
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and (real := entry.resolve()) not in above:
            deeper, others = _below(entry, above | {real})
            images += deeper
            passed += others or ([] if deeper else [entry])
        elif entry.suffix.lower() in endings and entry.is_file():
            images.append(entry)
        else:
            passed.append(entry)
    return images, passed


def _class_names(classes, names):
    """The classes found in subfolders, sorted, or `names` if they hold them all; None without classes."""
    if names is None:
        if all(re.fullmatch(r"[-+]?[0-9]+(\.[0-9]+)?", name) for name in classes):
            return tuple(sorted(classes, key=lambda name: (Decimal(name), name))) or None
        return tuple(sorted(classes))
    if not classes:
        raise ValueError(f"names must be None for images that lie in no subfolders; got {names!r}")
    names, classes = as_names(names), sorted(classes)
    if unknown := [name for name in classes if name not in names]:
        raise ValueError(
            f"names must hold all subfolders, {', '.join(classes)}; got {', '.join(names)}, "
            f"which {'lacks' if len(unknown) == 1 else 'lack'} {', '.join(unknown)}"
        )
    return names


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


def _some(names, most=8):
    """The first of the names, and how many more there are."""
    names = [str(name) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _native(column):
    """The array in the byte order of this machine."""
    return column.astype(column.dtype.newbyteorder("="), copy=False) if isinstance(column, np.ndarray) else column


def _read_npy(path):
    return {"x": np.load(path, allow_pickle=False)}


def _read_safetensors(path):
    return read_tensors(path.read_bytes())


def _read_npz(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)
