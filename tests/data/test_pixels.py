"""Images keep the depth of their files, or are refused by name."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from genfast.data.pixels import read_image


def wide(channels, shape=(5, 7)):
    """uint16 (H, W, C) whose lower bytes matter, and a slope that filters of a PNG see."""
    noise = np.random.default_rng(0).integers(0, 65536, (*shape, channels))
    noise[0] = np.linspace(0, 65535, shape[1]).astype(int)[:, None]
    return noise.astype(np.uint16)


def write_png(path, pixels, filters=0, **chunks):
    """A 16-bit PNG of gray, gray with alpha, color, or color with alpha: uint16 (H, W, 1 to 4)."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, channels = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    if filters == 2:  # less the row above, as encoders do
        rows = np.vstack([rows[:1], rows[1:] - rows[:-1]])
    data = b"".join(bytes([filters]) + row.tobytes() for row in rows)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
        + b"".join(chunk(name.encode(), value) for name, value in chunks.items())
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def write_tiff(path, pixels, order, white_is_zero=False, plane=1, packed=False):
    """A 16-bit TIFF of color or gray, "<" or ">": uint16 (H, W, 1 or 3)."""
    height, width, channels = pixels.shape
    photo = (0 if white_is_zero else 1) if channels == 1 else 2
    data = pixels.astype(f"{order}u2")
    data = (data if plane == 1 else data.transpose(2, 0, 1)).tobytes()
    data = zlib.compress(data) if packed else data
    count = 1 if plane == 1 else channels
    base = 8 + 2 + 11 * 12 + 4
    tables, extra = [], b""

    def entry(tag, kind, *values):
        nonlocal extra
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            packed, extra = struct.pack(f"{order}I", base + len(extra)), extra + packed
        tables.append(struct.pack(f"{order}HHI", tag, kind, len(values)) + packed.ljust(4, b"\0"))

    start = base + 100
    size = len(data) // count
    for tag, kind, *values in (
        (256, 4, width), (257, 4, height), (258, 3, *[16] * channels), (259, 3, 8 if packed else 1), (262, 3, photo),
        (273, 4, *(start + i * size for i in range(count))), (277, 3, channels), (278, 4, height),
        (279, 4, *[size] * count), (284, 3, plane), (339, 3, *[1] * channels),
    ):  # fmt: skip
        entry(tag, kind, *values)
    magic = b"II*\0" if order == "<" else b"MM\0*"
    header = magic + struct.pack(f"{order}IH", 8, len(tables)) + b"".join(tables) + bytes(4)
    path.write_bytes((header + extra).ljust(start, b"\0") + data)


def assert_pixels(found, expected):
    """uint16 (C, H, W) and (H, W, C)"""
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, expected.transpose(2, 0, 1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("filters", [0, 2])
def test_16_bit_png(tmp_path, channels, filters):
    pixels = wide(channels)
    write_png(tmp_path / "a.png", pixels, filters)
    assert_pixels(read_image(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize("channels", [2, 4])
def test_16_bit_transparency_is_laid_on_white(tmp_path, channels):
    pixels = wide(channels)
    pixels[0, :, -1], pixels[1, :, -1] = 0, 65535
    write_png(tmp_path / "a.png", pixels)
    found = read_image(tmp_path / "a.png").transpose(1, 2, 0)
    color, alpha = pixels[..., :-1].astype(float), pixels[..., -1:] / 65535
    assert (found[0] == 65535).all() and (found[1] == pixels[1, :, :-1]).all()
    np.testing.assert_array_equal(found, (color * alpha + 65535 * (1 - alpha)).round())


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_transparent_color(tmp_path, channels):
    pixels = wide(channels)
    write_png(tmp_path / "a.png", pixels, tRNS=pixels[2, 3].astype(">u2").tobytes().rjust(2 * channels, b"\0"))
    expected = pixels.copy()
    expected[2, 3] = 65535
    assert_pixels(read_image(tmp_path / "a.png"), expected)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("packed", [False, True])
def test_16_bit_tiff(tmp_path, order, channels, packed):
    pixels = wide(channels)
    write_tiff(tmp_path / "a.tif", pixels, order, packed=packed)
    assert_pixels(read_image(tmp_path / "a.tif"), pixels)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_16_bit_compressed_tiff(tmp_path, compression):
    """Pillow writes grays only."""
    pixels = wide(1)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "a.tif", compression=compression)
    assert_pixels(read_image(tmp_path / "a.tif"), pixels)


def test_white_may_be_zero(tmp_path):
    pixels = wide(1)
    write_tiff(tmp_path / "a.tif", pixels, "<", white_is_zero=True)
    assert_pixels(read_image(tmp_path / "a.tif"), 65535 - pixels)


@pytest.mark.parametrize("most", [65535, 1023])
def test_16_bit_ppm(tmp_path, most):
    for kind, channels in ((b"P5", 1), (b"P6", 3)):
        pixels = wide(channels) // (65536 // (most + 1))
        (tmp_path / "a.ppm").write_bytes(kind + b"\n7 5\n%d\n" % most + pixels.astype(">u2").tobytes())
        assert_pixels(read_image(tmp_path / "a.ppm"), (pixels * (65535 / most)).round().astype(np.uint16))


def test_16_bit_jpeg_2000(tmp_path):
    pixels = wide(1, (32, 32))
    Image.fromarray(pixels[..., 0]).save(tmp_path / "a.jp2", irreversible=False)
    assert_pixels(read_image(tmp_path / "a.jp2"), pixels)


def test_16_bits_are_resized_as_8_bits_are(tmp_path):
    small = np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(np.uint8)
    Image.fromarray(small).save(tmp_path / "8.png")
    write_png(tmp_path / "16.png", small.astype(np.uint16) * 257)
    for channels in (1, 3):
        narrow, deep = (read_image(tmp_path / f"{bits}.png", 4, channels) for bits in (8, 16))
        assert narrow.dtype == np.uint8 and deep.dtype == np.uint16 and narrow.shape == deep.shape == (channels, 4, 4)
        assert np.abs(deep / 257 - narrow.astype(float)).max() < 1.5 and (deep % 257).any()


def test_16_bits_are_turned_as_the_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = wide(3)
    write_png(tmp_path / "a.png", pixels, eXIf=exif.tobytes()[6:])
    assert_pixels(read_image(tmp_path / "a.png"), np.rot90(pixels, -1))
    write_png(tmp_path / "b.png", pixels[..., :1], eXIf=exif.tobytes()[6:])
    assert_pixels(read_image(tmp_path / "b.png"), np.rot90(pixels[..., :1], -1))


def refused(path, words):
    with pytest.raises(ValueError, match=rf"^path: .*{path.name} cannot be read: .*{words}"):
        read_image(path)


def test_depth_that_would_be_lost_is_refused(tmp_path):
    pixels = wide(3)
    (tmp_path / "plain.ppm").write_text("P3\n7 5\n65535\n" + " ".join(str(value) for value in pixels.flat))
    refused(tmp_path / "plain.ppm", "16 bits")
    sgi = struct.pack(">hBBHHHH", 474, 0, 2, 3, 7, 5, 3).ljust(512, b"\0")
    (tmp_path / "a.sgi").write_bytes(sgi + pixels.transpose(2, 0, 1)[:, ::-1].astype(">u2").tobytes())
    refused(tmp_path / "a.sgi", "16 bits")
    write_tiff(tmp_path / "planes.tif", pixels, "<", plane=2)
    refused(tmp_path / "planes.tif", "16 bits")
    Image.new("RGB", (32, 32)).save(tmp_path / "a.jp2")
    data = bytearray((tmp_path / "a.jp2").read_bytes())
    data[data.index(b"\xff\x4f\xff\x51") + 42] = 15
    (tmp_path / "a.jp2").write_bytes(data)
    refused(tmp_path / "a.jp2", "16 bits")


def test_numbers_without_a_range_are_refused(tmp_path):
    for name, dtype in (("float.tif", np.float32), ("int.tif", np.int32)):
        Image.fromarray(np.ones((4, 4), dtype)).save(tmp_path / name)
        refused(tmp_path / name, "no known range")
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.pfm")
    cards = ("SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = 2", "NAXIS2  = 2", "END")
    (tmp_path / "a.fits").write_bytes("".join(card.ljust(80) for card in cards).ljust(2880).encode() + bytes(2880))
    refused(tmp_path / "a.fits", "no known range")
    refused(tmp_path / "float.pfm", "no known range")
    write_tiff(tmp_path / "12.tif", wide(1), "<")
    entry = struct.pack("<HHII", 258, 3, 1, 16)
    data = (tmp_path / "12.tif").read_bytes()
    assert entry in data
    (tmp_path / "12.tif").write_bytes(data.replace(entry, struct.pack("<HHII", 258, 3, 1, 12)))
    refused(tmp_path / "12.tif", "no known range")


def test_16_bits_that_a_filter_carries_beyond_the_range_are_clipped(tmp_path):
    pixels = np.zeros((8, 8), np.uint16)
    pixels[:, 4:] = 65535
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", 16)[0, 0].astype(int)
    assert (np.diff(found) >= 0).all() and found[0] == 0 and found[-1] == 65535
