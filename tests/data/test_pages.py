"""The kernel is told of the rows that are read, and of nothing beyond them."""

import mmap

import numpy as np
import pytest
import torch

from genfast.data.dataset import arrays
from genfast.data.pages import Pages

X = np.arange(400 * 3000, dtype=np.float32).reshape(400, 3000) / 1e6  # rows of 12,000 bytes


@pytest.fixture
def mapped(tmp_path):
    np.save(tmp_path / "x.npy", X)
    return np.load(tmp_path / "x.npy", mmap_mode="r")


class Told:
    """Stands for a map; remembers what it is told."""

    def __init__(self):
        self.advice = []

    def madvise(self, *advice):
        self.advice.append(advice)


@pytest.mark.parametrize("part", [np.s_[:], np.s_[7:], np.s_[3:300:2]])
def test_pages_are_those_of_the_rows(mapped, part):
    pages, told = Pages(mapped[part]), Told()
    pages.map = told
    pages.want(torch.tensor([5, 0]))
    for row, (what, begin, length) in zip((5, 0), told.advice, strict=True):
        first = 128 + 12_000 * np.arange(400)[part][row]  # after the header of the file
        assert what == mmap.MADV_WILLNEED and begin % mmap.PAGESIZE == 0
        assert first - mmap.PAGESIZE < begin <= first and begin + length == first + 12_000


@pytest.mark.parametrize("part", [np.s_[:], np.s_[7:], np.s_[::-1], np.s_[:, ::3], np.s_[50:60, 5:]])
def test_views_of_a_map_are_read_as_they_are(mapped, part):
    data = arrays(mapped[part])
    index = torch.tensor([4, 0, len(data) - 1])
    assert torch.equal(data.rows(index)["x"], torch.from_numpy(X[part][index].copy()))


def test_what_is_no_plain_map_is_told_nothing(mapped, tmp_path):
    assert Pages(mapped[::-1]).map is None and Pages(mapped.T).map is None
    np.save(tmp_path / "f.npy", np.asfortranarray(X))
    assert Pages(np.load(tmp_path / "f.npy", mmap_mode="r")).map is None
    Pages(mapped[::-1]).want(torch.tensor([1]))
