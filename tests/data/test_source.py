"""Samples that are in memory, or read as they are asked for: Data are the same for both."""

import numpy as np
import pytest
import torch
from asked import Asked

from genfast.common.units import Units
from genfast.data.dataset import Data, arrays
from genfast.data.source import SPREAD, Mapped, as_float

IMAGES = torch.randint(0, 256, (9, 3, 5, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Augmented:
    """Adds the number of a sample to it in a batch, and 1/2 elsewhere; halves its last dimension."""

    def shape(self, shape):
        return (*shape[:-1], shape[-1] // 2)

    def centered(self, x):
        return x[..., : x.shape[-1] // 2] + 0.5

    def __call__(self, x, seed, counter):
        return x[..., : x.shape[-1] // 2] + seed + counter.view(-1, *[1] * (x.ndim - 1))

    def described(self):
        return {"adds": 1}


def test_bytes_are_kept_and_seen_as_floats():
    data = arrays(IMAGES, torch.arange(9))
    assert data.source.dtype == torch.uint8 and data.source.x.data_ptr() == IMAGES.data_ptr() and data.levels == 256
    expected = torch.from_numpy(IMAGES.numpy().astype("f4") / np.float32(127.5) - 1)
    assert torch.equal(data.x, expected) and torch.equal(data.rows([3, 1])["x"], expected[[3, 1]])
    batch = data.batch(4, 3, 5)
    assert torch.equal(batch["x"], expected[batch["label"]]) and batch["x"].dtype == torch.float32
    for images in (IMAGES.permute(0, 2, 3, 1), IMAGES.numpy().transpose(0, 2, 3, 1)):
        assert torch.equal(arrays(images).x, expected) and arrays(images).shape == (3, 5, 6)
    assert torch.equal(arrays(IMAGES[:, 0]).x, expected[:, :1])
    assert torch.equal(as_float(expected), expected)


def test_nothing_is_read_before_it_is_asked_for():
    source = Asked(torch.randn(1000, 4))
    data = Data(source, torch.arange(1000) % 2)
    assert not source.asked and len(data) == 1000 and data.shape == (4,) and data.replace(classes=3).source is source
    batch = data.batch(0, 5, 3)
    assert source.asked == data.order(0, 5, 3).tolist() and torch.equal(batch["label"], data.order(0, 5, 3) % 2)
    assert len(data.glance()) == SPREAD and {0, 999} <= {*source.asked[3:]}
    assert torch.equal(data.x, source.held) and data.x is data.x


def test_a_source_has_the_batches_of_memory():
    x = torch.randn(20, 4)
    there, read = Data(x), Data(Asked(x))
    for first in (0, 17, 33):
        assert torch.equal(there.batch(1, first, 9)["x"], read.batch(1, first, 9)["x"])
    assert there.fingerprint() != read.fingerprint()


def test_what_is_done_to_samples():
    """A batch is augmented, whoever looks at rows sees them centered; both in units of the model."""
    x = torch.randn(6, 2, 4)
    data = Data(x).replace(augment=Augmented(), units=Units([0.0] * 2, [0.125] * 2))
    assert data.shape == (2, 2) and data.replace(classes=0).augment is data.augment
    centered = 8 * (x[..., :2] + 0.5)
    assert torch.equal(data.x, centered) and torch.equal(data.rows([4])["x"], centered[4:5])
    assert torch.equal(data.glance(), centered)
    counter = torch.arange(5, 9).view(-1, 1, 1)
    assert torch.equal(data.batch(3, 5, 4)["x"], 8 * (x[data.order(3, 5, 4)][..., :2] + 3 + counter))
    said = data.fingerprint()
    assert (said["augment"], said["units"]) == ({"adds": 1}, {"mean": [0.0] * 2, "sd": [0.125] * 2})
    assert said["sha256"] == Data(x).fingerprint()["sha256"]


def test_what_does_not_fit_is_refused_with_its_size(monkeypatch):
    monkeypatch.setattr("genfast.common.memory.free_memory", lambda device: 10**9)
    data = Data(Asked(torch.zeros(1, 1).expand(10**9, 1)))
    with pytest.raises(ValueError, match=r"x must fit into the memory .*; got 4 GB, of which 1 GB are free"):
        data.x  # noqa: B018


def test_levels_of_a_source_are_those_of_what_is_glanced_at():
    with pytest.raises(ValueError, match=r"levels must be None for x beyond \[-1, 1\]; got 9 and values from 0 to 3"):
        Data(Asked(torch.arange(4.0)[:, None]), levels=9)
    assert Data(Asked(torch.zeros(3, 1)), levels=9).levels == 9


# Memory maps ----------------------------------------------------------------------------------------------------------


def saved(path, x):
    np.save(path, x)
    return np.load(path, mmap_mode="r")


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", ">f8"])
def test_a_map_has_the_batches_of_memory(tmp_path, dtype):
    x = np.random.default_rng(0).normal(size=(20, 3, 2)).astype(dtype)
    data, there = arrays(saved(tmp_path / "x.npy", x), torch.arange(20) % 3), arrays(x)
    assert isinstance(data.source, Mapped) and data.shape == (3, 2) and data.classes == 3
    assert torch.equal(data.batch(1, 5, 30)["x"], there.batch(1, 5, 30)["x"]) and torch.equal(data.x, there.x)


def test_images_of_a_map(tmp_path):
    for number, images in enumerate((IMAGES, IMAGES.permute(0, 2, 3, 1), IMAGES[:, 0])):
        data, there = arrays(saved(tmp_path / f"{number}.npy", images.numpy())), arrays(images)
        assert data.source.dtype == torch.uint8 and data.levels == 256 and data.shape == there.shape
        assert torch.equal(data.batch(0, 3, 9)["x"], there.batch(0, 3, 9)["x"])


def test_a_map_is_checked_as_it_is_read(tmp_path):
    x = np.zeros((10_000, 2), np.float32)
    x[77] = np.nan
    data = arrays(saved(tmp_path / "x.npy", x))
    data.rows([76, 78])
    with pytest.raises(ValueError, match="x must hold finite values, in float32; got NaN or infinity in sample 77"):
        data.rows([3, 77])
    x[0] = np.inf  # which is among those that are looked at
    for bad, error, words in (
        (x, ValueError, "x must hold finite values"),
        (1e8 + np.random.default_rng(0).normal(size=(99, 2)), ValueError, "x must vary by what float32 can hold"),
        (np.zeros((4, 2), np.int32), TypeError, "x must hold floating-point samples; got torch.int32"),
        (np.zeros((4, 2), np.uint8), TypeError, "x must hold floating-point samples; got torch.uint8"),
        (np.zeros(4, np.float32), ValueError, r"x must have at least one sample, of shape \(N, \*\); got shape \(4,\)"),
    ):
        with pytest.raises(error, match=words):
            arrays(saved(tmp_path / "bad.npy", bad))


def test_a_fingerprint_of_a_map(tmp_path):
    x = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    one = arrays(saved(tmp_path / "x.npy", x)).fingerprint()
    assert arrays(saved(tmp_path / "y.npy", x)).fingerprint() == one
    x[0, 0] += 1
    assert arrays(saved(tmp_path / "z.npy", x)).fingerprint()["sha256"] != one["sha256"]
