"""Where images have their channels: said by the shape of 8-bit ones, asked for where it is not."""

import numpy as np
import pytest
import torch

import genfast as gf
from genfast.data import files
from genfast.data.dataset import Data, arrays, as_data


def pixels(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


RGB, GRAY = pixels(5, 6, 7, 3), pixels(5, 6, 7, 1)


@pytest.mark.parametrize("image", [RGB, GRAY])
@pytest.mark.parametrize("make", [arrays, as_data, Data])
def test_8_bit_images_show_where_their_channels_are(make, image):
    expected = image.permute(0, 3, 1, 2).float() / 127.5 - 1
    for given in (image, image.numpy(), image.permute(0, 3, 1, 2), image.permute(0, 3, 1, 2).numpy()):
        data = make(given)
        assert torch.equal(data.x, expected) and data.levels == 256 and data.shape == expected.shape[1:]


def test_a_model_is_trained_on_them():
    torch.manual_seed(0)
    model = gf.Diffusion(gf.nn.UNet(3, 4, (1,)))
    gf.fit(model, RGB[:, :, :6], steps=1, batch=2, progress=False)
    assert model.shape == (3, 6, 6) and model.levels == 256


def test_images_without_channels_are_gray():
    assert torch.equal(arrays(RGB[..., 0]).x, arrays(RGB[..., :1]).x)


def test_alpha_is_laid_on_white():
    """By hand: 0 is clear, 255 solid, and half of a black pixel is gray."""
    x = torch.tensor([[10, 20, 30, 255], [10, 20, 30, 0], [7, 0, 0, 100], [100, 200, 250, 51]], dtype=torch.uint8)
    image = x.view(1, 2, 2, 4).expand(3, 2, 2, 4)
    expected = [[10, 20, 30], [255, 255, 255], [158, 155, 155], [224, 244, 254]]
    for given, layout in ((image, "hwc"), (image.permute(0, 3, 1, 2), "chw"), (image, None)):
        found = ((arrays(given, layout=layout).x + 1) * 127.5).round()
        assert torch.equal(found[0].permute(1, 2, 0).reshape(4, 3), torch.tensor(expected, dtype=torch.float32))


def test_both_sides_must_be_told_apart():
    both = pixels(2, 3, 8, 3)
    with pytest.raises(ValueError, match=r"layout must be 'hwc' or 'chw' for x of shape \(N, 3, 8, 3\), where either"):
        arrays(both)
    assert arrays(both, layout="chw").shape == (3, 8, 3) and arrays(both, layout="hwc").shape == (3, 3, 8)
    assert torch.equal(arrays(both, layout="hwc").x, (both.permute(0, 3, 1, 2) / 127.5 - 1))
    with pytest.raises(ValueError, match=r"layout .* \(N, 5, 5, 2\), where neither side is 1, 3 or 4 channels"):
        arrays(pixels(2, 5, 5, 2))
    assert arrays(pixels(2, 5, 6, 2), layout="chw").shape == (5, 6, 2)


@pytest.mark.parametrize("make", [arrays, as_data, Data])
def test_floats_that_look_so_are_asked_for(make):
    x = torch.randn(2, 8, 9, 3)
    with pytest.raises(ValueError, match=r"layout must be 'hwc' or 'chw' for x of shape \(N, 8, 9, 3\).*looks like"):
        make(x)
    with pytest.raises(ValueError, match="layout"):
        make(x.double().numpy())
    for usual in ((2, 3, 8, 9), (2, 16, 4, 4), (2, 1, 8, 1), (2, 8, 9, 5), (2, 8, 3), (2, 8, 9, 3, 3)):
        assert make(torch.zeros(usual)).shape == usual[1:]


def test_floats_are_what_they_are_said_to_be():
    x = torch.randn(2, 8, 9, 3)
    assert torch.equal(arrays(x, layout="hwc").x, x.permute(0, 3, 1, 2)) and arrays(x, layout="hwc").levels is None
    assert torch.equal(arrays(x, layout="chw").x, x)
    assert arrays(torch.zeros(2, 8, 9, 12), layout="hwc").shape == (12, 8, 9)


@pytest.mark.parametrize("layout", [None, "hwc"])
def test_memory_maps_are_laid_out_as_they_are_read(layout, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAPPED", 0)
    clear = pixels(5, 6, 7, 4)
    for name, x in (("rgb", RGB), ("clear", clear), ("gray", RGB[..., 0]), ("floats", torch.randn(5, 8, 9, 3))):
        np.save(tmp_path / f"{name}.npy", x.numpy())
        if (name, layout) in (("gray", "hwc"), ("floats", None)):
            with pytest.raises(ValueError, match=f"{name}.npy: .*layout"):
                gf.data.load(tmp_path / f"{name}.npy", layout=layout)
            continue
        data = gf.data.load(tmp_path / f"{name}.npy", layout=layout)
        expected = arrays(x, layout=layout)
        assert not data.source.in_memory and data.shape == expected.shape and torch.equal(data.x, expected.x)
        assert torch.equal(data.batch(0, 0, 3)["x"], expected.batch(0, 0, 3)["x"]) and data.levels == expected.levels


def test_items_of_datasets_are_laid_out_too():
    items = [(image.numpy(), 0) for image in RGB]
    assert torch.equal(as_data(items).x, arrays(RGB).x)
    with pytest.raises(ValueError, match=r"layout must be .*looks like the channels"):
        as_data([(torch.zeros(8, 9, 3), 0)] * 2)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: gf.data.load("digits", layout="hwc"), "layout must be None but for arrays of a file; got hwc"),
        (lambda: arrays(RGB, layout="nhwc"), "layout must be one of None, chw, hwc; got 'nhwc'"),
        (lambda: arrays(torch.zeros(2, 8), layout="hwc"), r"x must have shape \(N, H, W, C\) .* \(N, 8\)"),
        (lambda: arrays(pixels(2, 8, 8, 5), layout="hwc"), "x must have 1, 3 or 4 channels in 8 bits; got .*5"),
        (lambda: arrays(np.zeros((0, 8, 8, 3), np.uint8)), "x must have at least one sample"),
        (lambda: arrays(arrays(RGB).source, layout="hwc"), "layout must be None for a source"),
    ],
)
def test_bad_layouts(call, words):
    with pytest.raises(ValueError, match=words):
        call()
