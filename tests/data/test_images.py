"""Pixels land where they should, with the values they should have."""

import numpy as np
import pytest
import torch
from PIL import Image

from genfast.data.images import grid, save_png, strip


def flat(*values, channels=1, size=(2, 3)):
    """One constant image per value."""
    return torch.tensor(values)[:, None, None, None].expand(-1, channels, *size)


def test_values():
    sheet = grid(flat(-1.0, 0.0, 1.0, -7.0, 7.0, 0.5), columns=6, padding=0)
    assert sheet.dtype == np.uint8 and sheet.shape == (2, 18, 1)
    assert sheet[0, ::3, 0].tolist() == [0, 128, 255, 0, 255, 191]
    assert grid(flat(0.25), value_range=(0, 1), padding=0)[0, 0, 0] == 64


def test_places_padding_and_scale():
    levels = torch.linspace(-0.9, 0.9, 5)
    sheet = grid(flat(*levels.tolist()), columns=2, padding=1, scale=4)
    assert sheet.shape == (3 * (8 + 1) + 1, 2 * (12 + 1) + 1, 1)
    for i, level in enumerate(levels):
        top, left = 1 + (i // 2) * 9, 1 + (i % 2) * 13
        cell = sheet[top - 1 : top + 9, left - 1 : left + 13, 0]
        assert (cell[1:-1, 1:-1] == round((level.item() + 1) * 127.5)).all()
        assert (cell[0] == 255).all() and (cell[-1] == 255).all() and (cell[:, [0, -1]] == 255).all()
    assert (sheet[19:27, 14:26] == 255).all()  # the empty sixth place


def test_scale_repeats_pixels():
    image = torch.rand(1, 3, 4, 5) * 2 - 1
    small, large = grid(image, padding=0), grid(image, padding=0, scale=3)
    assert small.shape == (4, 5, 3)
    np.testing.assert_array_equal(large[1::3, 2::3], small)
    np.testing.assert_array_equal(large, np.kron(small, np.ones((3, 3, 1), np.uint8)))


@pytest.mark.parametrize("n, shape", [(1, (2, 3)), (4, (4, 6)), (5, (4, 9)), (10, (6, 12))])
def test_default_is_about_square(n, shape):
    assert grid(flat(*[0.0] * n), padding=0).shape == (*shape, 1)


def test_strip_has_a_row_per_sample_and_time_to_the_right():
    time, sample = torch.arange(4.0)[:, None], torch.arange(2.0)[None, :]
    trajectory = (10 * sample + time)[:, :, None, None, None].expand(4, 2, 1, 2, 2)
    sheet = strip(trajectory, padding=0, value_range=(0, 255))
    assert sheet[::2, ::2, 0].tolist() == [[0, 1, 2, 3], [10, 11, 12, 13]]


@pytest.mark.parametrize("channels", [1, 3])
def test_png_round_trip(tmp_path, channels):
    images = torch.rand(6, channels, 8, 8) * 2 - 1
    sheet = grid(images, columns=3, scale=2)
    for name, what, options in (("a.png", images, {"columns": 3, "scale": 2}), ("b.png", sheet, {})):
        save_png(tmp_path / name, what, **options)
        read = np.asarray(Image.open(tmp_path / name))
        np.testing.assert_array_equal(read.reshape(sheet.shape), sheet)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_another_default_device():
    images = torch.linspace(-1, 1, 12).reshape(3, 1, 2, 2)
    sheet = grid(images)
    with torch.device("meta"):
        for values in (images, images.numpy()):
            np.testing.assert_array_equal(grid(values), sheet)
            assert strip(values[None]).any()


def test_input_is_left_alone_and_layout_does_not_matter():
    images = torch.randn(3, 3, 4, 4)
    before = images.clone()
    sheet = grid(images)
    assert torch.equal(images, before)
    np.testing.assert_array_equal(grid(images.to(memory_format=torch.channels_last)), sheet)
    np.testing.assert_array_equal(grid(images.numpy()), sheet)
    np.testing.assert_array_equal(grid(images.requires_grad_()), sheet)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: grid(torch.zeros(2, 8, 8)), r"images.*\(2, 8, 8\)"),
        (lambda: grid(torch.zeros(2, 2, 8, 8)), r"images.*1 or 3.*\(2, 2, 8, 8\)"),
        (lambda: grid(torch.zeros(0, 1, 8, 8)), r"images.*\(0, 1, 8, 8\)"),
        (lambda: grid(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)), r"images.*uint8"),
        (lambda: grid(flat(float("nan"))), r"images.*NaN"),
        (lambda: grid(flat(0.0), columns=0), r"columns.*0"),
        (lambda: grid(flat(0.0), padding=-1), r"padding.*-1"),
        (lambda: grid(flat(0.0), scale=1.5), r"scale.*1.5"),
        (lambda: grid(flat(0.0), value_range=(1, 1)), r"value_range.*\(1, 1\)"),
        (lambda: strip(torch.zeros(2, 1, 8, 8)), r"trajectory.*\(2, 1, 8, 8\)"),
        (lambda: save_png("x.png", np.zeros((4, 4), np.uint8)), r"images.*\(4, 4\)"),
        (lambda: save_png("x.png", np.zeros((4, 4, 3), np.uint8), scale=2), r"options.*scale"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
