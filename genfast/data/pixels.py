"""Pixels of an image file, at the depth that the file has."""

import contextlib
import functools
import re
import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile, ImageOps

# Pillow opens these, but they hold drawings and films, which are no images of pixels.
NOT_PIXELS = ("EPS", "MPEG")
USUAL = ("JPEG", "PNG")  # are tried first
GRAY, PALETTE = ("1", "L", "LA", "La"), ("P", "PA")  # modes of Pillow
ORIENTATION, ON_ITS_SIDE = 0x0112, range(5, 9)  # what a camera says, and what it says of these


@functools.cache
def readable():
    """What Pillow reads: names of formats, and the endings of their files, as ".png"."""
    Image.init()
    stub = ImageFile.StubImageFile  # knows a format, but not how to read it
    formats = [
        name
        for name, (opener, _) in Image.OPEN.items()
        if name not in NOT_PIXELS and not (isinstance(opener, type) and issubclass(opener, stub))
    ]
    formats.sort(key=lambda name: name not in USUAL)
    return tuple(formats), {ending for ending, name in Image.registered_extensions().items() if name in formats}


class Header(NamedTuple):
    """What is known of an image before it is read: its size as it is shown, whether it shows grays only, and whether
    it has more than 8 bits."""

    height: int
    width: int
    gray: bool
    wide: bool


def read_header(file, channels=None) -> Header:
    """What `read_image` will answer with; of a palette, unless `channels` are given, after reading it. Of a PNG that
    says at its end only how the camera was held it does not know that. Raises as `read_image` does."""
    with _opened(file) as image:
        wide = _kind(image, file) is not None
        gray = channels == 1 or image.mode in GRAY or image.mode.startswith("I")
        if image.mode in PALETTE and channels is None:
            gray = _narrow(image, None, None).shape[-1] == 1
        told = image.format != "PNG" or "exif" in image.info  # else Pillow would read the pixels first
        width, height = image.size
        if told and image.getexif().get(ORIENTATION) in ON_ITS_SIDE:
            width, height = height, width
        return Header(height, width, gray, wide)


def read_image(file, size=None, channels=None):
    """The pixels of an image file: uint8 or uint16 (1 or 3, H, W), one channel where it shows grays or `channels` is 1.

    The first picture where there are more, turned as the camera says, transparent ones laid on white. Palettes are
    gray where all that the image shows is; RGB files are color. `size` makes the middle square size x size.
    Raises ValueError for a file that cannot be read, or whose numbers Pillow would cut or has no range for.
    """
    with _opened(file) as image:
        kind = _kind(image, file)
        pixels = _narrow(image, channels, size) if kind is None else _finished(_wide(image, file, kind), channels, size)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def pixels_of(image, channels=None):
    """`read_image` of an image of Pillow's. Raises ValueError for one whose numbers have no known range."""
    kind = _kind(image, None)
    if kind is None:
        pixels = _narrow(image, channels, None)
    elif kind == "gray":
        pixels = _finished(_wide(image, None, kind), channels, None)
    else:
        raise ValueError("of its 16 bits a color Pillow keeps 8; hand it over as an array")
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


@contextlib.contextmanager
def _opened(file) -> Iterator[Image.Image]:
    """The file opened by Pillow. Inside it all errors are ValueErrors that name it."""
    try:
        with Image.open(file, formats=readable()[0]) as image:
            yield image
    except Exception as error:  # each format has errors of its own
        raise ValueError(f"path: {file} cannot be read: {error}") from error


def _narrow(image, channels, size):
    """uint8 (H, W, 1 or 3) of an image of up to 8 bits."""
    image = ImageOps.exif_transpose(image)
    gray, palette = image.mode in GRAY, image.mode in PALETTE
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if palette:
        image = image.convert("RGB")
        shown = np.asarray(image)
        gray = (shown == shown[..., :1]).all()
    image = image.convert("L" if gray or channels == 1 else "RGB")
    if size is not None:
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(image.height, image.width, -1)


def _finished(pixels, channels, size):
    """uint16 (H, W, 1 or 3) from gray or color, (H, W, 1 to 4), the last of 2 or 4 being alpha."""
    values = pixels.astype(np.float64)
    if pixels.shape[-1] in (2, 4):
        alpha = values[..., -1:] / 65535
        values = values[..., :-1] * alpha + 65535 * (1 - alpha)
    if channels == 1 and values.shape[-1] == 3:
        values = values @ np.array([[0.299], [0.587], [0.114]])  # ITU-R BT.601, as Pillow's mode L
    if size is not None:
        bands = [Image.fromarray(band.astype(np.float32)) for band in values.transpose(2, 0, 1)]
        bands = [ImageOps.fit(band, (size, size), Image.Resampling.BICUBIC) for band in bands]
        values = np.stack([np.asarray(band) for band in bands], axis=-1)
    return values.round().clip(0, 65535).astype(np.uint16)


def _kind(image, file):
    """Of what kind an image of 16 bits is: gray, PPM, LA or halves; None for one of up to 8 bits.

    Pillow reads 16-bit color as 8 bits: as the upper byte of each number, the one that is told it is the upper. Read
    once as big-endian and once as little-endian, the file gives both halves.
    """
    layout = _layout(image)
    if image.mode.startswith(("I", "F")):
        formats = ("PNG", "PPM") if image.mode == "I" else ("PNG", "PPM", "TIFF", "JPEG2000", None)  # None: no file
        if image.format not in formats or image.mode == "F" or layout == "I;12":
            raise ValueError(f"its numbers (mode {image.mode}) have no known range; save them as 8 or 16 bits")
        return "gray"
    if not _beyond_8_bits(image, file, layout):
        return None
    if image.format == "PPM" and image.tile[0].codec_name == "ppm":
        return "PPM"
    if layout == "LA;16B":
        return "LA"
    if image.format in ("PNG", "TIFF") and re.fullmatch("(RGB|RGBA|RGBX);16([BLN])", layout):
        return "halves"
    raise ValueError(f"of its 16 bits a color Pillow keeps 8 ({image.format}, {layout or image.mode}); save it as PNG")


def _layout(image):
    layouts = {tile.args if isinstance(tile.args, str) else str(tile.args[0]) for tile in _tiles(image) if tile.args}
    return layouts.pop() if len(layouts) == 1 else ""


def _tiles(image):
    """How the pixels lie in the file; nothing of an image that comes from none."""
    return getattr(image, "tile", ())


def _wide(image, file, kind):
    """uint16 (H, W, 1 to 4) of a 16-bit image of this kind."""
    if kind == "gray":
        inverted = image.format == "TIFF" and image.tag_v2.get(262) == 0  # white is zero
        pixels = np.asarray(ImageOps.exif_transpose(image)).astype(np.uint16)[..., None]
        return _on_white(65535 - pixels if inverted else pixels, image.info.get("transparency"))
    if kind == "PPM":
        width, height = image.size
        pixels = np.fromfile(file, ">u2", height * width * 3, offset=image.tile[0].offset)
        return np.round(pixels.reshape(height, width, 3) * (65535 / image.tile[0].args[1])).clip(0, 65535)
    if kind == "LA":  # four bytes a pixel
        return _halves(file, "RGBA").view(">u2").astype(np.uint16)
    name, _, order = _layout(image).partition(";16")
    little = order == "L" or (order == "N" and sys.byteorder == "little")
    halves = np.stack([_halves(file, f"{name};16{which}") for which in "BL"], axis=-1)
    pixels = halves.view("<u2" if little else ">u2")[..., 0].astype(np.uint16)
    return _on_white(pixels, image.info.get("transparency"))


def _beyond_8_bits(image, file, layout):
    """Whether a file that Pillow makes 8 bits has more."""
    if image.format == "PPM":
        return image.tile[0].codec_name in ("ppm", "ppm_plain") and image.mode != "1" and image.tile[0].args[1] > 255
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,))) > 8
    if image.format == "JPEG2000" and file is not None:
        with open(file, "rb") as opened:
            _, found, rest = opened.read(2**16).partition(b"\xff\x4f\xff\x51")
        return bool(found) and (rest[38] & 127) >= 8  # bits less one, of the first component
    return bool(re.search(";16[BLN]$", layout)) or any("16" in tile.codec_name for tile in _tiles(image))


def _halves(file, layout):
    """uint8 (H, W, C): the file read as if its pixels were laid out so."""
    with Image.open(file) as image:
        image.tile = [
            tile._replace(args=layout if isinstance(tile.args, str) else (layout, *tile.args[1:]))
            for tile in image.tile
        ]
        return np.array(ImageOps.exif_transpose(image))


def _on_white(pixels, clear):
    """The pixels of this color, if there is one, are transparent."""
    if clear is not None:
        pixels[(pixels == np.array(clear)).all(axis=-1)] = 65535
    return pixels
