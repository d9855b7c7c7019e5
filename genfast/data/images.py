"""Pictures of samples: a sheet of images, and strips that show how samples come about."""

import io
import math

import numpy as np
import torch
from PIL import Image

from ..common.checks import as_tensor, require_count, require_pair
from ..common.files import as_path, write_file

MOST = 2**12  # pixels of padding, times that one is seen, columns


def is_image(shape):
    """Whether the shape of a sample is that of an image, (1 or 3, height, width); not, where it is not known: None."""
    return shape is not None and len(shape) == 3 and shape[0] in (1, 3)


def grid(images, columns=None, padding=1, scale=1, value_range=(-1, 1)):
    """A sheet of images, row by row: uint8 array (H, W, C) from `images: (N, C, h, w)` with C = 1 or 3.

    columns      images per row; by default the sheet is about square
    padding      white pixels around every image
    scale        every pixel becomes scale x scale equal ones, so that small images can be seen
    value_range  the values that become black and white; what lies outside is clipped
    """
    images = as_tensor("images", images)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"images must have shape (N, 1 or 3, h, w); got {tuple(images.shape)}")
    if not images.is_floating_point() or not torch.isfinite(images).all():
        raise ValueError(f"images must hold finite floating-point values; got {images.dtype} or NaN or infinity")
    low, high = require_pair("value_range", value_range)
    if low == high:
        raise ValueError(f"value_range must be (low, high) with low < high; got {value_range!r}")
    n, channels, height, width = images.shape
    columns = require_count("columns", math.ceil(math.sqrt(n)) if columns is None else columns, 1, MOST)
    padding, scale = require_count("padding", padding, 0, MOST), require_count("scale", scale, 1, MOST)

    gray = (images.detach().cpu().double() - low) / (high - low)
    pixels = (gray.clamp(0, 1) * 255).round().to(torch.uint8).numpy().transpose(0, 2, 3, 1)
    pixels = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    pitch = height * scale + padding, width * scale + padding
    rows = -(-n // columns)
    sheet = np.full((rows * pitch[0] + padding, columns * pitch[1] + padding, channels), 255, np.uint8)
    for i, image in enumerate(pixels):
        top, left = (i // columns) * pitch[0] + padding, (i % columns) * pitch[1] + padding
        sheet[top : top + height * scale, left : left + width * scale] = image
    return sheet


def strip(trajectory, **options):
    """`trajectory: (T, N, C, h, w)` as uint8 (H, W, C): a row per sample, time to the right; options of `grid`."""
    trajectory = as_tensor("trajectory", trajectory)
    if trajectory.ndim != 5:
        raise ValueError(f"trajectory must have shape (T, N, C, h, w); got {tuple(trajectory.shape)}")
    return grid(trajectory.transpose(0, 1).flatten(0, 1), columns=trajectory.shape[0], **options)


def save_png(path, images, **options):
    """Write a PNG, whole or not at all: a picture, uint8 (H, W, C), as it is, or images through `grid(**options)`."""
    path = as_path("path", path)
    if not (isinstance(images, np.ndarray) and images.dtype == np.uint8):
        images = grid(images, **options)
    elif options:
        raise ValueError(f"options must be none for a finished uint8 picture; got {sorted(options)}")
    if images.ndim != 3 or images.shape[2] not in (1, 3):
        raise ValueError(f"images must be a picture of shape (H, W, 1 or 3); got {images.shape}")
    write_file(path, png(images))


def png(picture):
    """The bytes of a PNG of a picture, uint8 (H, W, 1 or 3)."""
    data = io.BytesIO()
    Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(data, format="PNG")
    return data.getvalue()
