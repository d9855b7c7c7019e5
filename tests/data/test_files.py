"""Folders of images and files of arrays: nothing in them is lost or misread without a word."""

import warnings
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from genfast.data import builtin, files
from genfast.data.builtin import digits
from genfast.data.files import load
from genfast.data.folder import folder
from genfast.data.source import Mapped


@pytest.fixture(autouse=True)
def no_warnings():
    """Warnings are errors, but where a test expects them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def pictures(shape, n=4):
    """uint8 (n, *shape), every value of a byte among them."""
    return np.random.default_rng(0).integers(0, 256, (n, *shape)).astype(np.uint8)


def test_folder(tmp_path):
    """In the order of paths, exactly pixel / 127.5 - 1; what is hidden is passed over without a word."""
    color = pictures((5, 7, 3))
    for name, image in zip(("b.png", "a.PNG", "c.bmp", "d.webp"), color):
        Image.fromarray(image).save(tmp_path / name, lossless=True)
    (tmp_path / ".hidden").mkdir()
    Image.fromarray(color[0]).save(tmp_path / ".hidden" / "z.png")
    (tmp_path / "._a.png").write_bytes(b"not an image")
    data = folder(tmp_path)
    assert data.shape == (3, 5, 7) and data.label is None and data.levels == 256
    expected = color[[1, 0, 2, 3]].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - 1
    np.testing.assert_array_equal(data.x.numpy(), expected)
    assert torch.equal(load(tmp_path).x, data.x) and torch.equal(load(str(tmp_path)).x, data.x)


def test_folder_of_classes(tmp_path):
    gray = pictures((6, 6), 6)
    for name, image in zip(("cat/2", "cat/1", "ant/9", "bee/deep/5", "bee/4", "cat/0"), gray):
        file = tmp_path / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    data = folder(tmp_path)
    assert data.shape == (1, 6, 6) and data.classes == 3 and data.label.tolist() == [0, 1, 1, 2, 2, 2]
    order = [2, 4, 3, 5, 1, 0]
    np.testing.assert_array_equal(((data.x[:, 0] + 1) * 127.5).round().numpy(), gray[order])
    assert torch.equal(folder(tmp_path, channels=3).x, data.x.expand(-1, 3, -1, -1))


def test_folder_resizes_the_middle_square(tmp_path):
    """A wide picture loses its sides; shrinking averages, so that a fine chequerboard becomes gray."""
    wide = np.zeros((16, 32, 3), np.uint8)
    wide[:, 8:24] = (255 * (np.indices((16, 16)).sum(0) % 2))[..., None]
    wide[:, :8, 0] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(wide.transpose(1, 0, 2)).save(tmp_path / "high.png")
    data = folder(tmp_path, size=4)
    assert data.shape == (3, 4, 4) and data.x.abs().max() < 0.15
    assert folder(tmp_path, size=4, channels=1).shape == (1, 4, 4)
    with pytest.raises(ValueError, match=r"wide.png has 32 x 16 pixels, high.png had 16 x 32; size="):
        folder(tmp_path)


def test_folder_of_all_modes(tmp_path):
    """Gray beside color becomes color; what is transparent is laid on white; palettes are looked up."""
    Image.fromarray(np.full((4, 4), 51, np.uint8)).save(tmp_path / "1.png")
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[:2] = (255, 0, 0, 255)
    Image.fromarray(clear).save(tmp_path / "2.png")
    Image.fromarray(np.tile(np.uint8([10, 20, 30]), (4, 4, 1))).convert("P", palette=Image.Palette.ADAPTIVE).save(
        tmp_path / "3.png"
    )
    x = ((folder(tmp_path).x + 1) * 127.5).round()
    assert x.shape == (3, 3, 4, 4) and (x[0] == 51).all()
    assert x[1, :, 0, 0].tolist() == [255, 0, 0] and x[1, :, 3, 3].tolist() == [255, 255, 255]
    assert x[2, :, 1, 1].tolist() == [10, 20, 30]


def test_load_digits():
    pytest.importorskip("sklearn")
    for name, split in (("digits", None), ("digits:train", "train"), ("digits:test", "test")):
        assert torch.equal(load(name).x, digits(split).x)
    with pytest.raises(ValueError, match=r"split.*'val'"):
        load("digits:val")


def test_load_files(tmp_path):
    """Floats as they are, bytes as images whichever axis holds the channels; labels where there are any."""
    x, label = torch.randn(4, 3, 2), torch.tensor([0, 2, 1, 1])
    image = torch.from_numpy(pictures((5, 7, 3)))
    scaled = image.permute(0, 3, 1, 2) / 127.5 - 1
    np.save(tmp_path / "x.npy", x.double().numpy())
    np.save(tmp_path / "hwc.npy", image.numpy())
    np.save(tmp_path / "hw.npy", image[..., 0].numpy())
    np.savez(tmp_path / "chw.npz", images=image.permute(0, 3, 1, 2).numpy(), labels=label.int().numpy())
    np.savez(tmp_path / "plain.npz", x.numpy())
    safetensors.torch.save_file({"x": x.bfloat16(), "label": label}, tmp_path / "x.safetensors")
    assert torch.equal(load(tmp_path / "x.npy").x, x)
    assert torch.equal(load(tmp_path / "hwc.npy").x, scaled)
    assert torch.equal(load(tmp_path / "hw.npy").x, scaled[:, :1])
    assert torch.equal(load(tmp_path / "chw.npz").x, scaled)
    assert torch.equal(load(tmp_path / "chw.npz").label, label) and load(tmp_path / "chw.npz").levels == 256
    assert load(tmp_path / "chw.npz", names=[*"abc"]).levels == 256 and load(tmp_path / "x.npy").levels is None
    assert torch.equal(load(str(tmp_path / "plain.npz")).x, x)
    data = load(tmp_path / "x.safetensors")
    assert torch.equal(data.x, x.bfloat16().float()) and data.classes == 3


def test_bad_files(tmp_path):
    def fails(name, words, error=ValueError):
        with pytest.raises(error, match=words):
            load(tmp_path / name)

    np.save(tmp_path / "both.npy", np.zeros((2, 3, 5, 3), np.uint8))
    np.save(tmp_path / "two.npy", np.zeros((2, 5, 5, 2), np.uint8))
    np.save(tmp_path / "int.npy", np.zeros((2, 5)).astype(np.int32))
    np.save(tmp_path / "pickle.npy", np.array([{}]), allow_pickle=True)
    np.savez(tmp_path / "names.npz", samples=np.zeros((2, 2)))
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    (tmp_path / "x.csv").write_text("1,2")
    (tmp_path / "empty").mkdir()
    fails("both.npy", r"both.npy: layout must be .*\(N, 3, 5, 3\), where either side could be the channels")
    fails("two.npy", r"two.npy: layout must be .*neither side is 1, 3 or 4 channels")
    fails("int.npy", "int32", TypeError)
    fails("pickle.npy", r"pickle.npy cannot be read")
    fails("names.npz", r"path must hold one array called .*arr_0.*; got \['samples'\] in .*names.npz")
    (tmp_path / "archive.npy").write_bytes((tmp_path / "names.npz").read_bytes())
    fails("archive.npy", "archive.npy.*NpzFile", TypeError)
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as file:
        file.writestr("x", "no array")
    fails("text.npz", "text.npz.*bytes", TypeError)
    fails("cut.safetensors", r"cut.safetensors cannot be read")
    fails("x.csv", r"\.npy.*x.csv")
    fails("absent.npy", r"absent.npy", FileNotFoundError)
    fails("empty", r"empty holds no images")

    images = tmp_path / "images"
    images.mkdir()
    Image.new("F", (4, 4)).save(images / "deep.tif")
    fails("images", r"deep.tif cannot be read.*mode F.*no known range")
    (images / "deep.tif").unlink()
    (images / "deep.png").write_bytes(b"not an image")
    fails("images", r"deep.png cannot be read")
    picture(images / "class" / "a.png")
    fails("images", r"classes in subfolders, but deep.png lies beside")


def picture(path, gray=0, size=(3, 2)):
    """A uniform image, its folder made where needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, gray).save(path)


def grays(data):
    return [round(float(image[0, 0, 0] + 1) * 127.5) for image in data.x]


@pytest.mark.parametrize(
    "ending",
    ["png", "PNG", "tif", "tiff", "gif", "ppm", "pgm", "pnm", "jfif", "jpe", "JPEG", "bmp", "webp", "tga", "jp2"],
)
def test_what_pillow_reads_is_read(tmp_path, ending):
    kind = {"pgm": "PPM", "pnm": "PPM", "tga": "TGA"}.get(ending, Image.registered_extensions()[f".{ending.lower()}"])
    Image.new("L", (16, 16), 102).save(tmp_path / f"a.{ending}", format=kind)
    Image.new("L", (16, 16), 7).save(tmp_path / "b.png")
    data = folder(tmp_path, channels=1)
    assert data.shape == (1, 16, 16)
    assert grays(data) == [102, 7]


def test_the_first_picture_of_an_animation(tmp_path):
    first, second = Image.new("L", (4, 4), 10), Image.new("L", (4, 4), 200)
    for name in ("a.gif", "b.tif", "c.png"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
    assert grays(folder(tmp_path)) == [10, 10, 10]


def test_links_are_followed_but_not_in_circles(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    picture(root / "cat" / "a.png", 1)
    picture(outside / "x" / "b.png", 2)
    picture(outside / "c.png", 3)
    (root / "dog").symlink_to(outside, target_is_directory=True)
    (root / "cat" / "link.png").symlink_to(outside / "c.png")
    expected = [1, 3, 3, 2], [0, 0, 1, 1], ("cat", "dog")

    def found():
        data = folder(root)
        return grays(data), data.label.tolist(), data.names

    assert found() == expected
    (root / "cat" / "up").symlink_to(root, target_is_directory=True)
    (outside / "self").symlink_to(outside / "x", target_is_directory=True)
    (outside / "x" / "back").symlink_to(outside, target_is_directory=True)
    (root / "cat" / "broken.png").symlink_to(outside / "nothing.png")
    (root / "cat" / "loop.png").symlink_to(root / "cat" / "loop.png")
    with pytest.warns(UserWarning, match="5 of 10 files.*broken.png, cat/loop.png, cat/up, dog/self/back, dog/x/back"):
        values, label, names = found()
    assert (values, label, names) == ([1, 3, 3, 2, 2], [0, 0, 1, 1, 1], ("cat", "dog"))
    assert folder_of_a_link(tmp_path, outside / "x")


def folder_of_a_link(tmp_path, target):
    """The folder itself may be a link."""
    for entry in target.iterdir():
        if entry.is_symlink():
            entry.unlink()
    (tmp_path / "link").symlink_to(target, target_is_directory=True)
    return grays(folder(tmp_path / "link")) == [2]


def test_what_is_passed_over_is_counted_and_named(tmp_path):
    picture(tmp_path / "cat" / "a.png")
    picture(tmp_path / "cat" / "image without an ending.png")
    (tmp_path / "cat" / "image without an ending.png").rename(tmp_path / "cat" / "image")
    (tmp_path / "cat" / ".DS_Store").write_text("hidden")
    (tmp_path / "dog").mkdir()
    (tmp_path / "film.mpg").write_text("")
    (tmp_path / "table.h5").write_text("")
    with pytest.warns(UserWarning) as told:
        data = folder(tmp_path)
    (warning,) = told
    assert "4 of 5 files" in str(warning.message) and "cat/image, dog, film.mpg, table.h5" in str(warning.message)
    assert warning.filename == __file__ and data.names == ("cat",)
    for i in range(20):
        (tmp_path / f"{i:02}.txt").write_text("")
    with pytest.warns(UserWarning, match="24 of 25 files.*00.txt, 01.txt.* and 16 more"):
        load(tmp_path)
    with pytest.raises(ValueError, match="dog holds no images"):
        folder(tmp_path / "dog")
    (tmp_path / "dog" / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"dog holds no images, but notes\.txt"):
        folder(tmp_path / "dog")


@pytest.mark.parametrize(
    "made, sorted_names",
    [
        (("10", "9", "2"), ("2", "9", "10")),
        (("10", "9", "x"), ("10", "9", "x")),
        (("01", "1", "0"), ("0", "01", "1")),
        (("-1", "0.5", "0.25", "-10"), ("-10", "-1", "0.25", "0.5")),
        (("nan", "10", "9"), ("10", "9", "nan")),
        (("katze", "\u00e4ffin", "Zebra"), ("Zebra", "katze", "\u00e4ffin")),
    ],
)
def test_names_of_classes(tmp_path, made, sorted_names):
    for gray, name in enumerate(made):
        picture(tmp_path / name / "a.png", gray)
    data = folder(tmp_path)
    assert data.names == sorted_names
    assert all(made[gray] == data.names[label] for gray, label in zip(grays(data), data.label.tolist()))


def test_names_asked_for(tmp_path):
    for gray, name in enumerate(("cat", "dog", "eel")):
        picture(tmp_path / name / "deep" / "a.png", gray)
    names = ("eel", "ant", "dog", "cat")
    for data in (folder(tmp_path, names=names), load(tmp_path, names=list(names))):
        assert data.names == names and data.classes == 4
        assert grays(data) == [0, 1, 2] and data.label.tolist() == [3, 2, 0]
    with pytest.raises(
        ValueError, match=r"names must hold all subfolders, cat, dog, eel; got eel, ant, which lack cat, dog"
    ):
        folder(tmp_path, names=("eel", "ant"))
    with pytest.raises(ValueError, match=r"names must be None .*no subfolders"):
        folder(tmp_path / "cat" / "deep", names=names)


def test_a_gray_folder_stays_gray(tmp_path):
    """Beside palettes of grays, of which only those shown count, and gray with transparency."""
    values = pictures((5, 4), 1)[0]
    Image.fromarray(values).save(tmp_path / "a.png")
    palette = Image.fromarray(values // 64).convert("L")
    palette.putpalette([0, 0, 0, 50, 50, 50, 100, 100, 100, 150, 150, 150, 255, 0, 0])
    palette.save(tmp_path / "b.png")
    palette.save(tmp_path / "c.gif", transparency=0)
    Image.fromarray(np.stack([values, 255 - values * 0], -1)).save(tmp_path / "d.png")
    x = ((folder(tmp_path).x + 1) * 127.5).round().numpy()
    assert x.shape == (4, 1, 5, 4)
    np.testing.assert_array_equal(x[1, 0], 50 * (values // 64))
    np.testing.assert_array_equal(x[2, 0], np.where(values < 64, 255, 50 * (values // 64)))
    np.testing.assert_array_equal(x[0], x[3])
    palette.putpalette([0, 0, 0, 50, 50, 50, 100, 100, 100, 255, 0, 0])
    palette.save(tmp_path / "e.png")
    assert folder(tmp_path).shape == (3, 5, 4)


def test_gray_pixels_of_an_rgb_file_are_color(tmp_path):
    Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "a.png")
    assert folder(tmp_path).shape == (3, 4, 4) and folder(tmp_path, channels=1).shape == (1, 4, 4)


def test_images_of_8_and_16_bits_side_by_side(tmp_path):
    Image.new("L", (2, 2), 51).save(tmp_path / "a.png")
    Image.fromarray(np.full((2, 2), 13_107 + 1, np.uint16)).save(tmp_path / "b.png")
    x, levels = folder(tmp_path, channels=3).x, folder(tmp_path).levels
    place = (x.double() + 1) * 32767.5
    assert levels == 65_536 and (place - place.round()).abs().max() < 0.01  # those of 8 bits are among them
    assert x.shape == (2, 3, 2, 2) and x.dtype == torch.float32
    assert (x[0] == torch.tensor(51) / 127.5 - 1).all() and (x[1] == torch.tensor(13_108) / 32767.5 - 1).all()


def test_labels_of_files(tmp_path):
    x, label = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32), np.array([0, 2, 1, 1])
    for name in ("label", "labels", "y"):
        np.savez(tmp_path / "a.NPZ", x=x, **{name: label})
        (tmp_path / "a.NPZ.npz").rename(tmp_path / "a.NPZ")
        data = load(tmp_path / "a.NPZ", names=("a", "b", "c", "d"))
        assert data.label.tolist() == label.tolist() and data.names == ("a", "b", "c", "d")
        safetensors.torch.save_file(
            {"x": torch.from_numpy(x), name: torch.from_numpy(label)}, tmp_path / "a.safetensors"
        )
        assert load(tmp_path / "a.safetensors").label.tolist() == label.tolist()
    np.savez(tmp_path / "c.npz", x=x.astype(">f8"), y=label.astype(">i2"), condition=x.astype(">f4"))
    data = load(tmp_path / "c.npz")
    assert torch.equal(data.x, torch.from_numpy(x)) and torch.equal(data.condition, data.x)
    assert data.label.tolist() == label.tolist()


def test_arrays_that_are_not_read(tmp_path):
    x, label = np.zeros((4, 3), np.float32), np.array([0, 2, 1, 1])
    np.savez(tmp_path / "a.npz", x, label)
    with pytest.warns(UserWarning, match=r"a.npz were passed over: arr_1"):
        assert load(tmp_path / "a.npz").label is None
    np.savez(tmp_path / "b.npz", x=x, y=label, mask=x > 0, weights=x)
    with pytest.warns(UserWarning, match=r"b.npz were passed over: mask, weights"):
        load(tmp_path / "b.npz")
    for columns in ({"x": x, "y": label, "label": label}, {"x": x, "images": x}):
        np.savez(tmp_path / "c.npz", **columns)
        with pytest.raises(ValueError, match=r'path must hold one array called "\w+" or .*; got .*c.npz'):
            load(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", x=x, y=np.array(["cat"] * 4))
    with pytest.raises(TypeError, match=r"d.npz"):
        load(tmp_path / "d.npz")
    np.savez(tmp_path / "e.npz", x=x)
    with pytest.raises(ValueError, match="names must be None for data without labels"):
        load(tmp_path / "e.npz", names=("a", "b"))
    np.savez(tmp_path / "e.npz", x=x, label=label)
    with pytest.raises(ValueError, match="names must be at least 3, one a class; got 2"):
        load(tmp_path / "e.npz", names=("a", "b"))


def test_a_name_that_is_also_a_path(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "digits" / "a.png")
    with pytest.raises(ValueError, match=r"say ./digits or digits:train"):
        load("digits")
    assert len(load("./digits")) == len(load(tmp_path / "digits")) == 1
    assert torch.equal(load("digits:train").x, digits("train").x)


def test_another_default_device(tmp_path):
    picture(tmp_path / "folder" / "cat" / "a.png", 51)
    np.save(tmp_path / "x.npy", pictures((5, 7)))
    with torch.device("meta"):
        found = folder(tmp_path / "folder"), load(tmp_path / "x.npy")
    assert all(data.x.device.type == "cpu" for data in found) and found[0].label.tolist() == [0]
    pytest.importorskip("sklearn")
    builtin._all_digits.cache_clear()
    with torch.device("meta"):
        data = digits("train")
    assert data.x.device.type == "cpu" and len(data) == 1347


@pytest.mark.parametrize(
    "build, error, words",
    [
        (lambda: folder("nowhere to be found"), NotADirectoryError, "path.*nowhere"),
        (lambda: folder(".", size=0), ValueError, "size.*0"),
        (lambda: folder(".", size=32.0), ValueError, "size.*32.0"),
        (lambda: folder(".", channels=2), ValueError, "channels.*2"),
    ],
)
def test_bad_input(build, error, words):
    with pytest.raises(error, match=words):
        build()


@pytest.mark.parametrize("names", [{"cat", "dog"}, {"cat": 0, "dog": 1}, "cd", 2])
def test_names_that_have_no_order(tmp_path, names):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / name / "a.png")
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 2), np.float32), y=np.arange(2))
    for path in (tmp_path, tmp_path / "a.npz"):
        with pytest.raises(TypeError, match="names must be a sequence of strings"):
            load(path, names=names)


@pytest.mark.parametrize("read", [folder, load])
def test_what_is_no_path(read):
    with pytest.raises(TypeError, match="path must be a path; got NoneType"):
        read(None)


# Larger than memory ---------------------------------------------------------------------------------------------------


@pytest.fixture
def small_memory(monkeypatch):
    monkeypatch.setattr(files, "MAPPED", 500)


@pytest.mark.usefixtures("small_memory")
def test_large_arrays_are_mapped(tmp_path):
    x, label = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32), np.arange(40) % 3
    image = pictures((5, 7, 3), 40)
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "b.npz", label=label, x=x)
    np.savez(tmp_path / "c.npz", labels=label, images=image)
    np.savez(tmp_path / "d.npz", x=np.asfortranarray(x))
    for name in ("a.npy", "b.npz", "d.npz"):
        data = load(tmp_path / name)
        assert isinstance(data.source, Mapped) and torch.equal(data.x, torch.from_numpy(x))
    assert load(tmp_path / "b.npz").label.tolist() == label.tolist()
    data = load(tmp_path / "c.npz", names=("a", "b", "c"))
    assert isinstance(data.source, Mapped) and data.levels == 256 and data.names == ("a", "b", "c")
    np.testing.assert_array_equal(((data.x + 1) * 127.5).round().numpy(), image.transpose(0, 3, 1, 2))
    assert not isinstance(load("digits:test").source, Mapped)


@pytest.mark.usefixtures("small_memory")
def test_what_is_compressed_is_read_with_a_word(tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    np.savez_compressed(tmp_path / "a.npz", x=x)
    with pytest.warns(UserWarning, match=r"x.npy in .*a.npz is compressed: all of it is read, 1.09e-06 GB") as told:
        data = load(tmp_path / "a.npz")
    assert torch.equal(data.x, torch.from_numpy(x)) and told[0].filename == __file__


def test_twenty_gigabytes(tmp_path, monkeypatch):
    """A sparse file: what is looked at is read, and no more."""
    path = tmp_path / "large.npy"
    with open(path, "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (20 * 10**9 // 256, 64)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 20 * 10**9)
    data = load(path)
    assert len(data) == 78_125_000 and data.shape == (64,) and data.fingerprint()["samples"] == len(data)
    assert data.rows([0, len(data) - 1])["x"].shape == (2, 64) and path.stat().st_blocks * 512 < 2**20
    monkeypatch.setattr("genfast.common.memory.free_memory", lambda device: 10**9)
    with pytest.raises(ValueError, match=r"x must fit into the memory to be there all at once; got 20 GB"):
        data.x  # noqa: B018
