"""The order of the data is a function of (seed, counter); the digits are the real ones; bad input is named."""

import sys

import numpy as np
import pytest
import torch

from genfast.data import builtin
from genfast.data.builtin import digits
from genfast.data.dataset import Data, arrays, as_data, permutation


@pytest.fixture
def counting():
    """Sample i is (i, i): a batch shows its own order."""
    return arrays(torch.arange(10.0)[:, None].expand(10, 2), torch.arange(10) % 3)


def order(data, seed, first, size):
    return data.batch(seed, first, size)["x"][:, 0].int().tolist()


def test_every_epoch_is_a_permutation(counting):
    run = order(counting, 5, 0, 40)
    epochs = [run[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert order(counting, 6, 30, 10) != epochs[3]  # the same epoch of another seed


@pytest.mark.parametrize("size", [1, 3, 10, 25, 40])
def test_order_does_not_depend_on_the_split_into_batches(counting, size):
    whole = order(counting, 5, 0, 40)
    for first in range(0, 40, size):
        assert order(counting, 5, first, min(size, 40 - first)) == whole[first : first + size]
    for first in (33, 7, 20):  # back and forth: nothing remembers what was asked before
        assert order(counting, 5, first, 7) == whole[first : first + 7]


def test_order_leaves_the_global_generators_alone(counting):
    torch.manual_seed(0), np.random.seed(0)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(0), np.random.seed(0)
    counting.batch(1, 0, 25)
    assert (torch.rand(1), np.random.rand()) == expected


def test_order_is_frozen():
    """A resumed run must meet the order of the run that was killed, on any version: words of Philox, ranked."""
    assert permutation(8, seed=7, epoch=3).tolist() == [2, 5, 7, 3, 0, 6, 4, 1]
    words = np.random.Philox(key=7 + (3 << 64)).random_raw(100).tolist()
    assert permutation(100, seed=7, epoch=3).tolist() == sorted(range(100), key=words.__getitem__)
    assert sorted(permutation(4, seed=2**63 - 1, epoch=0)) == [0, 1, 2, 3]


def test_positions_are_uniform():
    counts = np.zeros((6, 6))
    for epoch in range(6000):
        counts[np.arange(6), permutation(6, 0, epoch)] += 1
    chi2 = ((counts - 1000) ** 2 / 1000).sum()  # 25 degrees of freedom
    assert 6 < chi2 < 61  # 1e-4 on either side


def test_labels_follow_their_samples(counting):
    batch = counting.batch(2, 4, 30)
    assert torch.equal(batch["label"], batch["x"][:, 0].long() % 3)
    assert batch["label"].dtype == torch.int64 and counting.classes == 3 and counting.shape == (2,)
    assert arrays(torch.zeros(4, 1)).batch(0, 0, 2)["label"] is None


def test_conditions_follow_their_samples(counting):
    condition = counting.x.double().numpy() / 2
    batch = arrays(counting.x, condition=condition).batch(2, 4, 30)
    assert batch["condition"].dtype == torch.float32 and torch.equal(batch["condition"], batch["x"] / 2)
    assert counting.batch(2, 4, 30)["condition"] is None


def test_far_counters(counting):
    far = 10 * 2**40
    assert sorted(order(counting, 0, far, 10)) == list(range(10))


def test_digits():
    sklearn = pytest.importorskip("sklearn.datasets")
    real = sklearn.load_digits()
    data = digits()
    assert data.x.shape == (1797, 1, 8, 8) and data.x.dtype == torch.float32 and data.classes == 10
    assert data.x.min() == -1 and data.x.max() == 1
    np.testing.assert_array_equal((data.x[:, 0].numpy() + 1) * 8, real.images)
    np.testing.assert_array_equal(data.label.numpy(), real.target)


def test_digits_split_is_stratified_and_a_partition():
    pytest.importorskip("sklearn")
    everything, train, test = digits(), digits("train"), digits("test")
    for digit in range(10):
        whole = (everything.label == digit).sum()
        assert (test.label == digit).sum() == round(0.25 * int(whole))
        assert (test.label == digit).sum() + (train.label == digit).sum() == whole
    rows = torch.cat([train.x, test.x]).flatten(1)
    assert len(torch.unique(rows, dim=0)) == len(torch.unique(everything.x.flatten(1), dim=0))
    assert torch.equal(digits("test").x, test.x)
    assert abs(len(digits("test", fraction=0.1)) - 180) <= 5


def test_digits_are_read_once_and_are_the_callers_own(monkeypatch):
    digits().x.zero_()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)  # whoever opens them again is seen
    assert digits().x.abs().sum() > 0 and len(digits("test")) == 450


def test_digits_without_scikit_learn_says_what_to_install(monkeypatch):
    builtin._all_digits.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install genfast\[demo\]"):
        digits()


def test_as_data():
    x, label = torch.zeros(3, 2), torch.tensor([0, 1, 1])
    data = arrays(x, label)
    assert as_data(data) is data
    assert data.x.data_ptr() == x.data_ptr()  # shared
    assert as_data(x).classes == 0
    assert as_data((x.numpy(), label.numpy())).classes == 2
    assert as_data(x.numpy().astype(np.float64)).x.dtype == torch.float32
    assert arrays(x, label, classes=5).classes == 5
    assert "3 samples of shape (2,), 2 classes" in repr(data)


@pytest.mark.parametrize(
    "build, error, words",
    [
        (lambda: as_data([1.0, 2.0]), TypeError, "data.*got list"),
        (lambda: Data([[1.0]]), TypeError, "x.*got list"),
        (lambda: Data(torch.zeros(2, 3, dtype=torch.uint8)), TypeError, "x.*uint8.*127.5"),
        (lambda: Data(torch.zeros(0, 3)), ValueError, r"x.*\(0, 3\)"),
        (lambda: Data(torch.zeros(3)), ValueError, r"x.*\(3,\)"),
        (lambda: Data(torch.tensor([[1.0], [torch.nan], [torch.inf]])), ValueError, "x.*2 samples, the first is 1"),
        (lambda: Data(torch.tensor([[1e300]], dtype=torch.float64)), ValueError, "x.*infinity"),
        (lambda: Data(torch.zeros(2, 1), torch.zeros(2)), TypeError, "label.*float32"),
        (lambda: Data(torch.zeros(2, 1), torch.zeros(3, dtype=torch.int64)), ValueError, r"label.*\(2,\).*\(3,\)"),
        (lambda: Data(torch.zeros(2, 1), torch.tensor([0, -1])), ValueError, "label.*-1"),
        (lambda: Data(torch.zeros(2, 1), [0, 1]), TypeError, "label.*list"),
        (lambda: Data(torch.zeros(2, 1), torch.tensor([0, 4]), classes=4), ValueError, "classes.*at least 5.*4"),
        (lambda: Data(torch.zeros(2, 1), classes=4), ValueError, "classes"),
        (lambda: Data(torch.zeros(2, 1), condition=[[1.0], [2.0]]), TypeError, "condition.*list"),
        (lambda: Data(torch.zeros(2, 1), condition=torch.ones(2, 1).int()), TypeError, "condition.*int32"),
        (lambda: Data(torch.zeros(2, 1), condition=torch.ones(2)), ValueError, r"condition.*\(2, \*\).*\(2,\)"),
        (lambda: Data(torch.zeros(2, 1), condition=torch.ones(3, 1)), ValueError, "condition.*3, 1"),
        (lambda: Data(torch.zeros(2, 1)).batch(-1, 0, 1), ValueError, "seed.*-1"),
        (lambda: Data(torch.zeros(2, 1)).batch(2**63, 0, 1), ValueError, "seed"),
        (lambda: Data(torch.zeros(2, 1)).batch(0, -3, 1), ValueError, "first.*-3"),
        (lambda: Data(torch.zeros(2, 1)).batch(0, 0, 0), ValueError, "size.*0"),
        (lambda: Data(torch.zeros(2, 1)).batch(0, 0, 1.5), ValueError, "size.*1.5"),
        (lambda: digits("val"), ValueError, "split.*'val'"),
        (lambda: digits("test", fraction=1.5), ValueError, "fraction.*1.5"),
    ],
)
def test_bad_input(build, error, words):
    with pytest.raises(error, match=words):
        build()
