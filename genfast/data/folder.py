"""Folders of images, each of which is read when it is asked for."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..common.checks import require_choice, require_integer
from ..common.files import as_path
from ..common.warn import warn_user
from .columns import as_names
from .dataset import Data
from .pixels import Header, read_header, read_image, readable
from .source import Source

BROKEN = ("raise", "skip")


def folder(path, size=None, channels=None, names=None, broken="raise"):
    """The images below a folder, in the order of their paths: x (N, C, H, W) in [-1, 1], pixel / 127.5 - 1 of 8-bit
    images and pixel / 32767.5 - 1 of 16-bit ones; 256 levels, or 65,536 where there is a 16-bit one.

    At first only their headers are read, and of palettes, whose headers do not say whether they are gray, all where
    `channels` is None: 20,000 JPEGs in 1.4 s of a core. An image is read when it is asked for.
    Where they lie in subfolders these are the classes, `Data.names`: sorted as numbers where all are numbers, as text
    otherwise. Links are followed, but not in circles. All that Pillow reads is read: the first picture of a file, as
    turned by its camera, transparent ones laid on white. Palettes are gray where the image shows grays only, RGB files
    are color. Other files, broken links and empty folders are passed over with a UserWarning; hidden ones without.
    size      None if all have one size already; otherwise the middle square of each is made size x size, by Pillow's
              bicubic filter, which averages when it shrinks
    channels  1 for gray, 3 for color; None for gray if all of them are
    names     the classes in another order, or more of them
    broken    what to do with an image that cannot be read: "raise" a ValueError that names it, at once where its header
              is broken, else when it is met; or "skip", for which every image is read once, here: what is left, and so
              the order of samples, must be known before a run begins. A UserWarning says how many, and the first.
              More pixels than Pillow takes (`Image.MAX_IMAGE_PIXELS`, twice) are broken, too
    Raises ValueError naming the first file that cannot be read, has another size, or lies beside the subfolders, and
    the subfolders that are not in `names`.
    """
    size = None if size is None else require_integer("size", size, 1)
    channels = require_choice("channels", channels, (None, 1, 3))
    broken = require_choice("broken", broken, BROKEN)
    root = as_path("path", path)
    if not root.is_dir():
        raise NotADirectoryError(f"path must be a folder; got {path}")
    files, passed = (sorted(file.relative_to(root) for file in found) for found in _below(root, {root.resolve()}))
    if not files:
        raise ValueError(f"path: {path} holds no images{f', but {some(passed)}' if passed else ''}")
    classes = {file.parts[0] for file in files if len(file.parts) > 1}
    if classes and (loose := [file for file in files if len(file.parts) == 1]):
        raise ValueError(f"path: {path} holds classes in subfolders, but {loose[0]} lies beside them")
    names = _class_names(classes, names)
    if passed:
        total = len(files) + len(passed)
        warn_user(f"path: {len(passed)} of {total} files below {path} were passed over, as no images: {some(passed)}")
    files, headers = _looked_at(root, files, size, channels, broken)
    source = Folder(root, files, headers, size, channels)
    if names is None:
        return Data(source)
    number = {name: i for i, name in enumerate(names)}
    return Data(source, torch.tensor([number[file.parts[0]] for file in files], device="cpu"), len(names), names=names)


class Folder(Source):
    """Images of one size: files below a folder, with their headers."""

    decoded = True

    def __init__(self, root: Path, files: list[Path], headers: list[Header], size: int | None, channels: int | None):
        height, width = (size, size) if size else headers[0][:2]
        gray, wide = all(header.gray for header in headers), any(header.wide for header in headers)
        self.root, self.files, self.size, self.channels = root, [str(file) for file in files], size, channels
        self.shape = (channels or (1 if gray else 3), height, width)
        self.levels, self.dtype = (2**16, torch.float32) if wide else (2**8, torch.uint8)

    def __len__(self) -> int:
        return len(self.files)

    def stored(self, index: Tensor) -> Tensor:
        rows = torch.empty(len(index), *self.shape, dtype=self.dtype, device="cpu")
        for row, i in zip(rows.numpy(), index.tolist()):
            row[:] = self._pixels(self.root / self.files[i])
        return rows

    def identity(self) -> Iterator[bytes]:
        sizes = [(self.root / file).stat().st_size for file in self.files]
        yield json.dumps([self.files, sizes, self.size, self.shape, self.levels]).encode()
        for i in self.spread().tolist():
            yield (self.root / self.files[i]).read_bytes()

    def _pixels(self, file: Path) -> np.ndarray:
        """Those of one image, as they are stored. Raises ValueError that names it."""
        image = read_image(file, self.size, self.channels)
        if image.shape[1:] != self.shape[1:] or len(image) > self.shape[0]:
            raise ValueError(f"path: {file} has shape {image.shape} now, and must have {self.shape}, as at the start")
        largest = np.iinfo(image.dtype).max
        if self.dtype == torch.float32:
            return image.astype(np.float32) / np.float32(largest / 2) - 1
        if largest > 255:
            raise ValueError(f"path: {file} has 16 bits now, and had 8 at the start")
        return image


def _looked_at(
    root: Path, files: list[Path], size: int | None, channels: int | None, broken: str
) -> tuple[list[Path], list[Header]]:
    """The files that are taken, and their headers; ValueError unless all are of one size, or are made so."""
    kept, headers, lost = [], [], []
    for file in tqdm(files, desc="images", unit="file", delay=1, leave=False, disable=None):
        try:
            header = read_header(root / file, channels) if broken == "raise" else _whole(root / file, channels)
        except ValueError as error:
            if broken == "raise":
                raise
            lost.append(str(error))
            continue
        kept.append(file)
        headers.append(header)
        if size is None and header[:2] != headers[0][:2]:
            (height, width), (h, w) = headers[0][:2], header[:2]
            raise ValueError(
                f"path: {file} has {w} x {h} pixels, {kept[0]} had {width} x {height}; size= makes them equal squares"
            )
    if not kept:
        raise ValueError(f"path: {root} holds no image that can be read; {lost[0]}")
    if lost:
        warn_user(f"{len(lost)} of {len(files)} images were skipped, the first: {lost[0]}")
    return kept, headers


def _whole(file: Path, channels: int | None) -> Header:
    """The header of an image all of which can be read."""
    image = read_image(file, None, channels)
    return Header(*image.shape[1:], gray=len(image) == 1, wide=image.dtype == np.uint16)


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


def some(names, most=8):
    """The first of the names, and how many more there are."""
    names = [str(name) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
