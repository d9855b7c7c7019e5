"""Folders are read as they are asked for; what becomes of each kind of odd picture."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genfast.data import pixels
from genfast.data.files import load
from genfast.data.folder import folder


@pytest.fixture(autouse=True)
def no_warnings():
    """Warnings are errors, but where a test expects them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def pictures(tmp_path):
    """A folder with nine good JPEGs of 16 x 16."""
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    for i in range(9):
        Image.fromarray(np.roll(image, i, 0)).save(tmp_path / f"{i}.jpg")
    return tmp_path


@pytest.fixture
def read(monkeypatch):
    """Names of the files whose pixels were decoded."""
    names, load = [], pixels.ImageFile.ImageFile.load

    def noted(image):
        names.append(Path(image.filename).name)
        return load(image)

    monkeypatch.setattr(pixels.ImageFile.ImageFile, "load", noted)
    return names


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def truncated(path):
    path.write_bytes(path.read_bytes()[:-40])


def empty(path):
    path.write_bytes(b"")


def other(path):
    path.write_bytes(b"not an image at all")


def huge(path):
    """A few bytes that claim 60,000 x 60,000 pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))


BAD_HEADER = [(empty, "cannot identify"), (other, "cannot identify"), (huge, "exceeds limit")]


def test_only_headers_are_read_at_the_start(pictures, read):
    data = folder(pictures)
    assert data.shape == (3, 16, 16) and len(data) == 9 and data.levels == 256 and read == []
    data.rows([4, 2])
    data.fingerprint()
    assert {*read} == {"4.jpg", "2.jpg"}


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_a_header_says_what_the_picture_is(tmp_path, channels):
    """Of all kinds of files, turned by their camera or not."""
    gray, color = Image.new("L", (5, 7), 9), Image.new("RGB", (5, 7), (9, 8, 7))
    turned = Image.Exif()
    turned[pixels.ORIENTATION] = 6
    palette = color.convert("P", palette=Image.Palette.ADAPTIVE)
    files = {
        "a.png": gray, "b.jpg": color, "c.png": palette, "d.gif": gray, "e.png": gray.convert("1"),
        "f.png": Image.fromarray(np.zeros((7, 5), np.uint16)), "g.jpg": color.convert("CMYK"),
        "h.png": color.convert("RGBA"), "i.webp": color, "j.tif": color, "k.png": gray.convert("LA"), "l.bmp": gray,
    }  # fmt: skip
    for name, image in files.items():
        image.save(tmp_path / name)
    color.save(tmp_path / "m.jpg", exif=turned)
    color.save(tmp_path / "n.webp", exif=turned)
    color.save(tmp_path / "o.png", exif=turned)
    for path in sorted(tmp_path.iterdir()):
        header, image = pixels.read_header(path, channels), pixels.read_image(path, None, channels)
        assert (header.height, header.width) == image.shape[1:], path
        assert header.wide == (image.dtype == np.uint16), path
        assert channels == 3 or header.gray == (len(image) == 1), path


@pytest.mark.parametrize("spoil, words", BAD_HEADER)
def test_a_broken_header_is_named_at_the_start(pictures, spoil, words):
    spoil(pictures / "5.jpg")
    for read in (folder, load):
        with pytest.raises(ValueError, match=rf"path: .*5.jpg cannot be read: .*{words}"):
            read(pictures)


def test_a_broken_picture_is_named_when_it_is_met(pictures):
    truncated(pictures / "5.jpg")
    data = folder(pictures)
    data.rows([4, 6])
    for look in (lambda: data.rows([4, 5]), lambda: data.batch(0, 0, 9), lambda: data.x):
        with pytest.raises(ValueError, match=r"path: .*5.jpg cannot be read: .*truncated"):
            look()
    (pictures / "4.jpg").unlink()
    with pytest.raises(ValueError, match=r"4.jpg cannot be read: .*No such file"):
        data.rows([4])


@pytest.mark.parametrize("spoil", [truncated, empty, other, huge])
def test_broken_pictures_are_skipped_with_a_word(pictures, spoil):
    spoil(pictures / "5.jpg")
    truncated(pictures / "7.jpg")
    with pytest.warns(
        UserWarning, match=r"2 of 9 images were skipped, the first: path: .*5.jpg cannot be read: "
    ) as told:
        data = folder(pictures, broken="skip")
    assert len(told) == 1 and told[0].filename == __file__
    assert [file[0] for file in data.source.files] == [*"0123468"] and len(data.x) == 7
    with pytest.warns(UserWarning):
        assert load(pictures, broken="skip").fingerprint() == data.fingerprint()
    for path in pictures.iterdir():
        truncated(path)
    with pytest.raises(ValueError, match=r"holds no image that can be read; path: .*0.jpg cannot be read"):
        folder(pictures, broken="skip")


def test_nothing_is_skipped_without_reason(pictures):
    assert torch.equal(folder(pictures, broken="skip").x, folder(pictures).x)
    with pytest.raises(ValueError, match="broken must be one of raise, skip; got 'ignore'"):
        folder(pictures, broken="ignore")


def test_odd_pictures(tmp_path):
    """CMYK is color, 16 bits stay 16 bits, of an animation the first picture is taken."""
    cmyk = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    cmyk.save(tmp_path / "a.jpg", quality=100)
    data = folder(tmp_path)
    red, green, blue = ((data.x[0, :, 4, 4] + 1) * 127.5).round().tolist()
    assert data.shape == (3, 8, 8) and data.levels == 256 and red < 60 < green and blue > 100
    Image.fromarray(np.full((8, 8), 13_108, np.uint16)).save(tmp_path / "b.png")
    data = folder(tmp_path)
    assert data.levels == 65_536 and data.source.dtype == torch.float32
    assert (data.x[1] == torch.tensor(13_108) / 32767.5 - 1).all()
    frames = [Image.new("L", (8, 8), gray) for gray in (51, 200)]
    frames[0].save(tmp_path / "c.gif", save_all=True, append_images=frames[1:])
    assert ((folder(tmp_path).x[2] + 1) * 127.5).round().unique().tolist() == [51]


def test_a_picture_that_changes_is_named(pictures):
    data, small = folder(pictures), folder(pictures, size=4)
    Image.new("RGB", (8, 8)).save(pictures / "3.jpg")
    with pytest.raises(ValueError, match=r"3.jpg has shape \(3, 8, 8\) now, and must have \(3, 16, 16\)"):
        data.rows([3])
    assert small.rows([3])["x"].shape == (1, 3, 4, 4)
    Image.fromarray(np.zeros((16, 16), np.uint16)).save(pictures / "3.jpg", format="PNG")
    with pytest.raises(ValueError, match=r"3.jpg has 16 bits now, and had 8 at the start"):
        data.rows([3])


def test_a_fingerprint_knows_names_sizes_and_bytes(pictures):
    first = folder(pictures).fingerprint()
    assert folder(pictures).fingerprint() == first
    assert folder(pictures, size=4).fingerprint()["sha256"] != first["sha256"]
    content = bytearray((pictures / "3.jpg").read_bytes())
    content[-20] ^= 1
    (pictures / "3.jpg").write_bytes(content)
    assert folder(pictures).fingerprint()["sha256"] != first["sha256"]
    content[-20] ^= 1
    (pictures / "3.jpg").write_bytes(content)
    assert folder(pictures).fingerprint() == first
    (pictures / "3.jpg").rename(pictures / "33.jpg")
    assert folder(pictures).fingerprint()["sha256"] != first["sha256"]
