"""Datasets of others: what torch and Hugging Face have, by what they answer, and what cannot be one is refused."""

import warnings
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from genfast.data.dataset import Data, as_data

X = torch.randn(20, 3, 4, 4, generator=torch.Generator().manual_seed(0))
LABEL = torch.arange(20) % 3
PICTURES = np.random.default_rng(0).integers(0, 256, (20, 5, 4, 3)).astype(np.uint8)


class Items(Dataset):
    """Answers with answer(i), 20 times, and counts how often."""

    def __init__(self, answer, **attributes):
        self.answer, self.asked = answer, []
        vars(self).update(attributes)

    def __len__(self):
        return 20

    def __getitem__(self, i):
        self.asked.append(i)
        return self.answer(i)


class Table(Items):
    """A dataset of Hugging Face's, as far as it is asked here: columns by their names, pictures of Pillow's."""

    column_names = ("img", "label")
    features = MappingProxyType({"img": None, "label": SimpleNamespace(names=["a", "b", "c"])})

    def __getitem__(self, i):
        return LABEL.tolist() if i == "label" else super().__getitem__(i)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(
    "dataset",
    [
        TensorDataset(X, LABEL),
        Items(lambda i: (X[i], int(LABEL[i]))),
        Items(lambda i: [X[i].numpy(), LABEL[i].numpy()]),
        Items(lambda i: {"x": X[i].double(), "label": LABEL[i]}),
        Items(lambda i: {"pixel_values": X[i], "target": np.int8(LABEL[i])}),
        Subset(TensorDataset(torch.cat([X, X]), torch.cat([LABEL, LABEL])), range(20, 40)),
    ],
)
def test_what_a_dataset_answers(dataset):
    data = as_data(dataset)
    expected = Data(X, LABEL)
    assert data.shape == (3, 4, 4) and data.classes == 3 and data.levels is None
    assert torch.equal(data.x, X) and torch.equal(data.label, LABEL)
    for name, value in expected.batch(1, 5, 30).items():
        found = data.batch(1, 5, 30)[name]
        assert found is value is None or torch.equal(found, value)


def test_without_labels_and_with_conditions():
    for dataset in (Items(lambda i: X[i]), Items(lambda i: {"image": X[i]})):
        data = as_data(dataset)
        assert data.label is None and torch.equal(data.x, X) and len(dataset.asked) < 60
    data = as_data(Items(lambda i: {"x": X[i], "label": LABEL[i], "condition": [i, 2.0]}))
    assert data.condition[:, 0].tolist() == [*range(20)] and data.condition.dtype == torch.float32


def test_pictures():
    table = Table(lambda i: {"img": Image.fromarray(PICTURES[i]), "label": int(LABEL[i])})
    data = as_data(table)
    assert max(table.asked.count(i) for i in range(9, 20)) == 0, "labels are a column: no picture is decoded for them"
    assert data.names == ("a", "b", "c") and torch.equal(data.label, LABEL) and data.levels == 256
    assert data.source.dtype == torch.uint8
    np.testing.assert_array_equal(data.source.stored(torch.tensor([3]))[0], PICTURES[3].transpose(2, 0, 1))
    mixed = [Image.fromarray(PICTURES[i] if i % 2 else PICTURES[i, ..., 0]) for i in range(20)]
    x = as_data(Items(mixed.__getitem__)).x  # gray ones in a set of color
    np.testing.assert_array_equal(((x[4] + 1) * 127.5).round(), np.stack([PICTURES[4, ..., 0]] * 3))
    deep = np.arange(20, dtype=np.uint16).reshape(4, 5) * 3000
    data = as_data(Items(lambda i: Image.fromarray(deep)))
    assert data.levels is None and torch.equal(data.x[0, 0], torch.tensor(deep.astype("f4") / np.float32(32767.5) - 1))
    data = as_data(Items(lambda i: PICTURES[i]))
    assert data.shape == (3, 5, 4) and data.source.dtype == torch.uint8 and data.levels == 256


@pytest.mark.parametrize("column", ["targets", "labels"])
def test_labels_are_looked_up_where_they_are_right(column):
    dataset = Items(lambda i: (X[i], int(LABEL[i])), **{column: LABEL.tolist(), "classes": ["a", "b", "c", "d"]})
    data = as_data(dataset)
    assert 15 not in dataset.asked and torch.equal(data.label, LABEL) and data.names == ("a", "b", "c", "d")
    part = as_data(Subset(dataset, [3, 4, 2]))
    assert part.label.tolist() == LABEL[[3, 4, 2]].tolist() and part.names == data.names
    dataset = Items(lambda i: (X[i], 2 - int(LABEL[i])), **{column: LABEL.tolist()})  # items are changed on the way
    assert torch.equal(as_data(dataset).label, 2 - LABEL) and 15 in dataset.asked
    for useless in (["cat"] * 20, LABEL[:5], [[1], [1, 2]]):
        assert torch.equal(as_data(Items(lambda i: (X[i], int(LABEL[i])), **{column: useless})).label, LABEL)


def test_a_fingerprint_is_of_what_is_answered():
    one, same = (as_data(TensorDataset(X, LABEL)).fingerprint() for _ in range(2))
    assert one == same
    assert as_data(TensorDataset(X + 1, LABEL)).fingerprint()["sha256"] != one["sha256"]
    other = as_data(Items(lambda i: torch.rand(4)))
    with pytest.warns(UserWarning, match="Items answers differently when asked again"):
        first = other.fingerprint()
    with pytest.warns(UserWarning):
        assert other.fingerprint() == first  # a run on it may go on


def test_other_parts_are_named():
    with pytest.warns(UserWarning, match="passed over: caption, id") as told:
        as_data(Items(lambda i: {"image": X[i], "caption": "a cat", "id": i}))
    assert told[0].filename == __file__


class Stream(IterableDataset):
    def __iter__(self):
        yield from X

    def __len__(self):
        return 20


@pytest.mark.parametrize(
    "dataset, error, words",
    [
        (iter(X), TypeError, "data must be Data, .* or a dataset with a length and positions; got"),
        (Stream(), TypeError, "positions; got Stream"),
        (DataLoader(TensorDataset(X)), TypeError, "positions; got DataLoader"),
        ({"train": TensorDataset(X)}, TypeError, "positions; got dict"),
        ("pictures", TypeError, "got str"),
        ({1, 2}, TypeError, "got set"),
        ([], ValueError, "data: a dataset must have at least one sample; got an empty list"),
        ([1.0, 2.0], TypeError, "data: data must have tensors, arrays or pictures as samples; got float as sample 0"),
        (TensorDataset(X, LABEL, LABEL), TypeError, r"must have x, \(x, label\) or a dict as samples; got 3 parts"),
        (Items(lambda i: {"caption": 1}), TypeError, "must have one of x, image, .* got caption"),
        (Items(lambda i: {"x": X[i], "image": X[i]}), TypeError, "must have one of x, image, .* got x, image"),
        (Items(lambda i: (X[i], "cat")), TypeError, "must have integers as labels; got str in sample 0"),
        (Items(lambda i: (X[i], LABEL[i] if i < 12 else None)), TypeError, "got NoneType in sample 12"),
        (Items(lambda i: X[i].long()), TypeError, "floating-point samples, or images in uint8; got torch.int64"),
        (Items(lambda i: 1 / 0), ValueError, "sample 0 of Items cannot be read: ZeroDivisionError"),
    ],
)
def test_what_is_no_dataset(dataset, error, words):
    with pytest.raises(error, match=words):
        as_data(dataset)


@pytest.mark.parametrize(
    "answer, words",
    [
        (
            lambda i: X[i] if i != 11 else X[i, :1],
            r"sample 11 must have .*\(3, 4, 4\), .* as the first; got \(1, 4",
        ),
        (lambda i: PICTURES[i] if i != 11 else X[i, :, :3], "sample 11 must have .* torch.uint8, as the first"),
        (lambda i: X[i] if i != 11 else X[i] / 0, "x must hold finite values; got NaN or infinity in sample 11"),
        (lambda i: {"x": X[i]} if i != 11 else {"y": 0}, "sample 11 must have x, as the first; got dict"),
        (lambda i: Image.new("L", (4, 4)) if i != 11 else Image.new("F", (4, 4)), "sample 11 cannot be read.*mode F"),
        (lambda i: X[i if i != 11 else 99], "sample 11 of Items cannot be read: IndexError"),
    ],
)
def test_an_item_unlike_the_others_is_named(answer, words):
    data = as_data(Items(answer))
    data.rows([1, 12])
    with pytest.raises(ValueError, match=words):
        data.rows([1, 11])
