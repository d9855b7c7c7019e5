"""Data from files and folders."""

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image, ImageOps

from ..common.checks import require_choice, require_integer
from .builtin import digits
from .dataset import Data

IMAGE_FILES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def folder(path, size=None, channels=None):
    """The images below a folder, in the order of their paths: x (N, C, H, W) = pixel / 127.5 - 1, in [-1, 1].

    Where they lie in subfolders these are the classes, numbered by name; hidden files and folders are passed over.
    Files: 8-bit .png, .jpg, .jpeg, .webp, .bmp, turned as their camera says and transparent ones laid on white.
    size      None if all have one size already; otherwise the middle square of each is made size x size, by Pillow's
              bicubic filter, which averages when it shrinks
    channels  1 for gray, 3 for color; None for gray if all of them are
    Raises ValueError naming the first file that cannot be read, has another size, or lies beside the subfolders.
    """
    size = None if size is None else require_integer("size", size, 1)
    channels = require_choice("channels", channels, (None, 1, 3))
    root = Path(path)
    if not root.is_dir():
        raise NotADirectoryError(f"path must be a folder; got {path}")
    files = sorted(file for file in root.rglob("*") if file.suffix.lower() in IMAGE_FILES and file.is_file())
    names = [file.relative_to(root) for file in files]
    names = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    if not names:
        raise ValueError(f"path: {path} holds no images, {', '.join(IMAGE_FILES)}")
    classes = sorted({name.parts[0] for name in names if len(name.parts) > 1})
    if classes and (loose := [name for name in names if len(name.parts) == 1]):
        raise ValueError(f"path: {path} holds classes in subfolders, but {loose[0]} lies beside them")
    images = [_read_image(root / name, size, channels) for name in names]
    for name, image in zip(names, images):
        if image.shape[1:] != images[0].shape[1:]:
            (height, width), (h, w) = images[0].shape[1:], image.shape[1:]
            raise ValueError(
                f"path: {name} has {w} x {h} pixels, {names[0]} had {width} x {height}; size= makes them equal squares"
            )
    depth = max(len(image) for image in images)
    x = torch.stack([torch.from_numpy(image).expand(depth, -1, -1) for image in images])
    label = np.array([classes.index(name.parts[0]) for name in names]) if classes else None
    return Data(x / 127.5 - 1, label, names=classes or None)


def load(path, size=None, channels=None):
    """Data from a file, a folder or a name.

    "digits", "digits:train" or "digits:test": see `digits`.  A folder: see `folder`, with its size and channels.
    .npy: x.  .npz, .safetensors: x under the name "x", "images" or "arr_0" and, if there is one, label under "label"
    or "labels".  x: (N, *) floating-point as it is, or images in uint8, (N, H, W), (N, C, H, W) or (N, H, W, C) with 1
    or 3 channels C, which become pixel / 127.5 - 1.
    Raises FileNotFoundError if there is nothing, ValueError or TypeError saying what is wrong with the file.
    """
    if isinstance(path, str) and path.partition(":")[0] == "digits":
        return digits(path.partition(":")[2] or None)
    path = Path(path)
    if path.is_dir():
        return folder(path, size, channels)
    if not path.exists():
        raise FileNotFoundError(f"path: there is no file {path}")
    readers = {".npy": _read_npy, ".npz": _read_npz, ".safetensors": safetensors.torch.load_file}
    if path.suffix not in readers:
        raise ValueError(f'path must be "digits", a folder, or a file {", ".join(readers)}; got {path}')
    try:
        columns = readers[path.suffix](path)
    except Exception as error:  # each format has errors of its own
        raise ValueError(f"path: {path} cannot be read: {error}") from error
    names = [name for name in ("x", "images", "arr_0") if name in columns]
    if not names:
        raise ValueError(f'path must hold one of "x", "images" and "arr_0"; got {sorted(columns)} in {path}')
    label = next((columns[name] for name in ("label", "labels") if name in columns), None)
    try:
        x = torch.as_tensor(columns[names[0]])
    except (TypeError, ValueError) as error:  # text, or numbers in another machine's order
        raise TypeError(f"path: {path} holds {names[0]} of type {columns[names[0]].dtype}: {error}") from error
    return Data(_scaled(x, path) if x.dtype == torch.uint8 else x, label)


def _read_npy(path):
    return {"x": np.load(path, allow_pickle=False)}


def _read_npz(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _scaled(image, path):
    """(N, C, H, W) in [-1, 1] from 8-bit images."""
    if image.ndim == 3:
        image = image[:, None]
    first, last = (image.ndim == 4 and image.shape[axis] in (1, 3) for axis in (1, 3))
    if first == last:
        wanted = "uint8 images with 1 or 3 channels, either first or last, or floats"
        raise ValueError(f"path must hold {wanted}; got shape {tuple(image.shape)} in {path}")
    return (image if first else image.permute(0, 3, 1, 2).contiguous()) / 127.5 - 1


def _read_image(file, size, channels):
    """uint8 (1 or 3, H, W)."""
    try:
        with Image.open(file) as image:
            image = ImageOps.exif_transpose(image)
    except Exception as error:  # each format has errors of its own
        raise ValueError(f"path: {file} cannot be read: {error}") from error
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"path must hold 8-bit images; got mode {image.mode} in {file}")
    gray = image.mode in ("1", "L", "LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 or (gray and channels is None) else "RGB")
    if size is not None:
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    pixels = np.array(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy()
