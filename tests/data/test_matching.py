"""Samples that can be held against data: of their shape, and with their classes."""

import pytest
import torch
from toys import normal

import genfast as gf
from genfast.data.matching import matched

DATA = gf.data.Data(normal(6, 4), torch.tensor([0, 1, 2] * 2), names=("cat", "dog", "horse"))


def test_classes_go_by_their_names():
    samples = gf.data.Data(normal(4, 4), torch.tensor([0, 1, 1, 0]), names=("cat", "horse"))
    found = matched(samples, DATA, "model")
    assert found.label.tolist() == [0, 2, 2, 0] and found.names == DATA.names and torch.equal(found.x, samples.x)
    other = gf.data.Data(samples.x, samples.label, names=("cat", "cow"))
    with pytest.raises(
        ValueError, match="train must have classes among cat, dog, horse; got cat, cow, of which cow is unknown"
    ):
        matched(other, DATA, "train")


def test_classes_that_have_no_names_keep_their_numbers():
    samples = gf.data.Data(normal(4, 4), torch.tensor([0, 1, 1, 0]))
    assert matched(samples, DATA, "model") is samples and matched(DATA, samples, "model") is DATA


def test_another_shape():
    with pytest.raises(ValueError, match=r"train must hold samples of shape \(4,\), as data has; got \(3,\)"):
        matched(gf.data.Data(normal(4, 3)), DATA, "train")
