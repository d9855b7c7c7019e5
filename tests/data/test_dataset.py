"""The order of the data is a function of (seed, counter); the digits are the real ones; bad input is named."""

import hashlib
import sys

import numpy as np
import pytest
import torch

from genfast import Diffusion, fit, nn
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


def test_a_fingerprint_does_not_depend_on_the_layout(monkeypatch):
    image = torch.randn(10, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    label = torch.arange(10)
    plain = arrays(image, label).fingerprint()
    last = arrays(image.contiguous(memory_format=torch.channels_last), label)
    assert last.x.stride() != image.stride() and last.fingerprint() == plain
    monkeypatch.setattr("genfast.data.source.PART", 7)  # bytes at once
    assert arrays(image, label).fingerprint() == plain
    assert plain["samples"] == 10 and plain["shape"] == [3, 4, 4] and len(plain["sha256"]) == 64
    expected = hashlib.sha256(b'["torch.float32", [10, 3, 4, 4]]' + image.numpy().tobytes())
    expected.update(b'["torch.int64", [10]]' + label.numpy().tobytes())
    assert plain["sha256"] == expected.hexdigest()


# What Data take -------------------------------------------------------------------------------------------------------


def test_unknown_labels():
    for label in (torch.tensor([0, -1, 2, 1]), np.array([0, -1, 2, 1], "i1"), np.array([0, -1, 2, 1], ">i4")):
        data = Data(torch.zeros(4, 1), label)
        assert data.label.tolist() == [0, -1, 2, 1] and data.label.dtype == torch.int64 and data.classes == 3
    assert Data(torch.zeros(2, 1), torch.tensor([-1, -1])).classes == 0
    assert Data(torch.zeros(2, 1), torch.tensor([-1, -1]), classes=4).classes == 4


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"])
def test_labels_of_any_integers(dtype):
    data = Data(torch.zeros(3, 1), np.array([2, 0, 1], dtype))
    assert data.label.tolist() == [2, 0, 1] and data.label.dtype == torch.int64 and data.classes == 3


def test_names():
    x, label = torch.zeros(3, 1), torch.tensor([0, 1, -1])
    for names in (("cat", "dog"), ["cat", "dog"], np.array(["cat", "dog"]), iter(["cat", "dog"])):
        data = arrays(x, label, names=names)
        assert data.names == ("cat", "dog") and data.classes == 2 and {type(name) for name in data.names} == {str}
        assert as_data(data) is data
    more = Data(x, label, names=("1", "01", "ünï"))  # a class without samples
    assert more.classes == 3 and more.names == ("1", "01", "ünï")
    assert Data(x, label, 3, names=("a", "b", "c")).classes == 3 and Data(x, label).names is None


def test_conditions_of_any_numbers():
    x = torch.zeros(3, 2)
    values = (
        torch.tensor([True, False, True]),
        torch.tensor([1, 0, 1]),
        np.array([1, 0, 1], "u2"),
        np.array([1.0, 0, 1]),
    )
    for condition in values:
        for shaped in (condition, condition.reshape(3, 1)):
            found = Data(x, condition=shaped).condition
            assert found.dtype == torch.float32 and found.tolist() == [[1], [0], [1]]
    missing = Data(x, condition=torch.tensor([1.0, torch.nan, 2.0], dtype=torch.float64)).condition
    assert missing.isnan().tolist() == [[False], [True], [False]]


SPREAD = torch.randn(400, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
ONE = torch.ones(400, 1, dtype=torch.float64)
LARGE = SPREAD[:, :1] + 1e8


@pytest.mark.parametrize(
    "x, words",
    [
        (SPREAD + 1e6, "4 of 4 .* the first, 0, near 1000000.* deviation of [.0-9]+: subtract the mean, x - x.mean"),
        (SPREAD + 1e8, "4 of 4 .* the first, 0, near 1"),
        (SPREAD - 1e12, "4 of 4 .* the first, 0, near -1"),
        (SPREAD + 1e16, "4 of 4 .* the first, 0, near 1"),  # float64 holds a bit of it
        (torch.cat([SPREAD, SPREAD + 1e14], 1), "4 of 8 .* the first, 4, near 1"),
        (torch.cat([SPREAD * 1e6, LARGE], 1), "1 of 5 .* the first, 4, near 1"),
        (torch.cat([ONE * 1e20, LARGE], 1), "1 of 2 .* the first, 1, near 1"),
        (LARGE.view(100, 1, 2, 2), "4 of 4"),
        (SPREAD * 1e-60, "4 of 4 .* divide it by [.0-9]+e-6[01] first"),
    ],
)
def test_a_spread_that_float32_cannot_hold_is_refused(x, words):
    with pytest.raises(ValueError, match=f"x must vary by what float32 can hold; got {words}"):
        Data(x)
    with pytest.raises(ValueError, match="condition must vary by what float32 can hold"):
        Data(torch.zeros(len(x), 1), condition=x)


@pytest.mark.parametrize(
    "x",
    [
        SPREAD + 1e5,
        SPREAD * 1e30,
        SPREAD * 1e-30,
        SPREAD + 1e-9 * SPREAD.flip(0),  # digits that no one misses
        torch.cat([SPREAD, ONE * 1e9], 1),  # a constant
        torch.cat([SPREAD, 1 / 3 + 1e-16 * SPREAD], 1),  # one that rounding jitters
        torch.cat([ONE, SPREAD.abs() * 1e-60], 1),  # a chance of nothing
        1e8 + 8 * SPREAD.round(),  # exact
        SPREAD[:1] + 1e8,
    ],
)
def test_other_spreads_are_taken(x):
    held = Data(x).x
    assert torch.equal(held, x.float()) and held.dtype == torch.float32


def test_numbers_of_rows_are_no_conditions():
    """Whole numbers are cast, too: beyond 2^24 float32 holds not all of them."""
    x, number = torch.zeros(400, 1), torch.arange(400)
    assert torch.equal(Data(x, condition=number).condition[:, 0], number.float())
    with pytest.raises(ValueError, match=r"condition must vary .* near 1"):
        Data(x, condition=number + 10**9)
    large = number + 2**60  # whose differences float64 does not hold either
    with pytest.raises(
        ValueError, match=r"near 1.15.*e\+18 .* of 1.2e\+02: subtract one of them, condition - condition\[0"
    ):
        Data(x, condition=large)
    assert torch.equal(Data(x, condition=large - large[0]).condition[:, 0], number.float())
    assert Data(x, condition=number * 2**54 - 2**62).condition.std() > 1e18  # all the range of int64
    known = torch.where(number % 2 == 0, torch.nan, number.double())
    Data(x, condition=known)
    with pytest.raises(ValueError, match="condition must vary"):  # missing ones do not hide it
        Data(x, condition=known + 10**9)


LAST = torch.channels_last


@pytest.mark.parametrize(
    "x, shared",
    [
        (torch.randn(8, 2, 4, 4), True),
        (torch.randn(8, 2, 4, 4).to(memory_format=LAST), True),
        (torch.randn(8, 2, 3, 4, 4).to(memory_format=torch.channels_last_3d), True),
        (torch.randn(9, 4, 3)[1:], True),
        (torch.randn(8, 2, 4, 4).transpose(2, 3), False),
        (torch.randn(8, 2, 4, 4).double().transpose(2, 3), False),
        (torch.randn(8, 4, 6)[..., ::2], False),
        (torch.randn(1, 4).expand(8, 4), False),
        (torch.randn(8, 4).numpy(), True),
        (torch.randn(8, 4).numpy()[::-1, ::-1], False),
        (torch.randn(8, 4).numpy().astype(">f4"), False),
        (torch.randn(8, 4).numpy().astype(">f8"), False),
        (np.zeros(8, [("a", "i1"), ("b", "f4", (3,))])["b"], False),  # strides of 13 bytes
        (torch.randn(8, 4).requires_grad_(), True),
    ],
)
def test_any_strides(x, shared):
    data, label = Data(x, torch.arange(16)[::2] % 3, condition=x), torch.arange(16)[::2] % 3
    values = x.detach() if isinstance(x, torch.Tensor) else torch.from_numpy(x.astype("f4"))
    batch = data.batch(0, 0, 8)
    for held in (data.x, data.condition, batch["x"], batch["condition"]):
        last = {4: LAST, 5: torch.channels_last_3d}.get(held.ndim, torch.contiguous_format)
        assert held.is_contiguous() or held.is_contiguous(memory_format=last)
    address = x.data_ptr() if isinstance(x, torch.Tensor) else x.__array_interface__["data"][0]
    assert torch.equal(data.x, values.float()) and (data.x.data_ptr() == address) == shared
    assert data.label.is_contiguous() and torch.equal(data.label, label) and not data.x.requires_grad


@pytest.mark.parametrize("x", [torch.randn(8, 2, 4, 4).transpose(2, 3), torch.randn(8, 2, 4, 4).to(memory_format=LAST)])
def test_any_strides_train(x):
    def weights(x):
        torch.manual_seed(0)
        model = Diffusion(nn.UNet(channels=2, width=8, multipliers=(1,)))
        fit(model, x, steps=2, batch=4, progress=False)
        return torch.cat([weight.detach().flatten() for weight in model.parameters()])

    torch.testing.assert_close(weights(x), weights(x.contiguous()))


def test_another_default_device():
    x, label = np.random.default_rng(0).normal(size=(6, 2)), np.arange(6) % 2
    expected = Data(x, label, condition=x)
    with torch.device("meta"):
        for data in (Data(x, label, condition=x), Data(expected.x, expected.label, condition=expected.condition)):
            batch = data.batch(0, 0, 6)
            assert all(value.device.type == "cpu" for value in batch.values())
    assert all(torch.equal(value, expected.batch(0, 0, 6)[name]) for name, value in batch.items())


MASKED = np.ma.masked_array(np.ones((4, 1)), [[0], [0], [1], [0]])
KINDS = [
    (MASKED, "an array without a mask; got a masked one"),
    (np.ma.masked_array(np.ones((4, 1))), "an array without a mask"),  # though it hides nothing
    (torch.ones(4, 1).to_sparse(), "dense .*; got a torch.sparse_coo one"),
    (torch.ones(4, 1, device="meta"), "dense .*; got a meta one"),
    (np.array([["a"]] * 4), "numbers of a type that torch has; got <U1"),
    (np.array([[None]] * 4), "numbers of a type that torch has; got object"),
    (np.zeros((4, 1), "M8[s]"), r"numbers of a type that torch has; got datetime64\[s\]"),
    ([[1.0]] * 4, "a tensor or an array; got list"),
]


@pytest.mark.parametrize("value, words", KINDS)
@pytest.mark.parametrize("argument", ["x", "label", "condition"])
def test_other_kinds_are_refused_by_name(argument, value, words):
    columns = {
        "x": torch.zeros(4, 1),
        argument: value if argument != "label" or isinstance(value, list) else value[:, 0],
    }
    with pytest.raises(TypeError, match=f"^{argument} must (be|hold) (a )?{words}"):
        Data(**columns)


def test_a_mask_in_a_pair_is_seen():
    for pair in ((MASKED, np.arange(4)), (np.ones((4, 1)), np.ma.masked_array(np.arange(4), [0, 0, 0, 1]))):
        with pytest.raises(TypeError, match="must be an array without a mask"):
            as_data(pair)


# Digits --------------------------------------------------------------------------------------------------------------


def test_far_counters(counting):
    far = 10 * 2**40
    assert sorted(order(counting, 0, far, 10)) == list(range(10))


def test_digits():
    sklearn = pytest.importorskip("sklearn.datasets")
    real = sklearn.load_digits()
    data = digits()
    assert data.x.shape == (1797, 1, 8, 8) and data.x.dtype == torch.float32 and data.classes == 10
    assert data.x.min() == -1 and data.x.max() == 1 and data.levels == digits("test").levels == 17
    np.testing.assert_array_equal((data.x[:, 0].numpy() + 1) * 8, real.images)
    np.testing.assert_array_equal(data.label.numpy(), real.target)


def test_replaced_arguments():
    data = Data(torch.zeros(2, 1), torch.tensor([0, 1]), condition=torch.ones(2, 3), names=("a", "b"), levels=9)
    other = data.replace(label=torch.tensor([1, 1]), levels=17)
    assert other.label.tolist() == [1, 1] and (other.levels, data.levels) == (17, 9)
    assert other.x.data_ptr() == data.x.data_ptr()
    assert other.names == ("a", "b") and other.classes == 2 and torch.equal(other.condition, data.condition)
    assert data.replace(label=None, classes=None, names=None).classes == 0


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
        (lambda: as_data([1.0, 2.0]), TypeError, "data.*got float as sample 0 of list"),
        (lambda: Data([[1.0]]), TypeError, "x.*got list"),
        (lambda: Data(torch.zeros(2, 3, dtype=torch.uint8)), TypeError, "x.*uint8.*127.5"),
        (
            lambda: Data(torch.zeros(2, 5, 5, 2, dtype=torch.uint8)),
            ValueError,
            r"layout.*\(N, 5, 5, 2\), where neither",
        ),
        (lambda: Data(torch.zeros(0, 3)), ValueError, r"x.*\(0, 3\)"),
        (lambda: Data(torch.zeros(3)), ValueError, r"x.*\(3,\)"),
        (lambda: Data(torch.tensor([[1.0], [torch.nan], [torch.inf]])), ValueError, "x.*2 samples, the first is 1"),
        (
            lambda: Data(torch.tensor([[1e39]], dtype=torch.float64)),
            ValueError,
            "x.*infinity in float32.* 1 samples",
        ),
        (lambda: Data(torch.zeros(2, 1), torch.zeros(2)), TypeError, "label.*float32"),
        (lambda: Data(torch.zeros(2, 1), torch.zeros(3, dtype=torch.int64)), ValueError, r"label.*\(2,\).*\(3,\)"),
        (lambda: Data(torch.zeros(2, 1), torch.tensor([0, -2])), ValueError, "label.*at least -1, .*unknown; got -2"),
        (lambda: Data(torch.zeros(1, 1), np.array([2**64 - 1], np.uint64)), ValueError, "label.*2.63"),
        (
            lambda: Data(torch.zeros(2, 1), condition=np.array([1, 2**64 - 1], np.uint64)),
            ValueError,
            "condition must hold values below 2.63",
        ),
        (
            lambda: Data(torch.full((2, 1), torch.nan).to(torch.float8_e4m3fn)),
            ValueError,
            "x must hold finite values; got NaN or infinity in 2",
        ),
        (lambda: Data(torch.zeros(2, 1), torch.tensor([True, False])), TypeError, "label.*bool"),
        (lambda: Data(torch.zeros(2, 1), [0, 1]), TypeError, "label.*list"),
        (lambda: Data(torch.zeros(2, 1), torch.tensor([0, 4]), classes=4), ValueError, "classes.*at least 5.*4"),
        (lambda: Data(torch.zeros(2, 1), classes=4), ValueError, "classes"),
        (lambda: Data(torch.zeros(2, 1), condition=[[1.0], [2.0]]), TypeError, "condition.*list"),
        (lambda: Data(torch.zeros(2, 1), condition=torch.ones(2, 1) * 1j), TypeError, "condition.*complex64"),
        (lambda: Data(torch.zeros(2, 1), condition=torch.ones(3)), ValueError, r"condition.*\(2, \*\).*\(3,\)"),
        (lambda: Data(torch.zeros(2, 1), condition=torch.zeros(2, 0)), ValueError, r"condition.*\(2, \*\).*\(2, 0\)"),
        (lambda: Data(torch.zeros(2, 1), condition=torch.tensor(1.0)), ValueError, r"condition.*\(2, \*\).*\(\)"),
        (
            lambda: Data(torch.zeros(2, 1), condition=torch.tensor([0, torch.inf])),
            ValueError,
            "condition.*infinity",
        ),
        (lambda: Data(torch.zeros(1, 1), condition=torch.tensor([1e39]).double()), ValueError, "condition.*infinity"),
        (lambda: Data(torch.zeros(2, 1), torch.tensor([0, 1]), names="ab"), TypeError, "names.*'ab'"),
        (lambda: Data(torch.zeros(2, 1), torch.tensor([0, 1]), names=(0, 1)), TypeError, r"names.*\(0, 1\)"),
        (lambda: Data(torch.zeros(2, 1), torch.tensor([0, 1]), names=2), TypeError, "names.*2"),
        (lambda: Data(torch.zeros(2, 1), torch.tensor([0, 1]), names=("a", "a")), ValueError, "names.*distinct.*a"),
        (lambda: Data(torch.zeros(2, 1), torch.tensor([0, 1]), names=("a",)), ValueError, "names must be 2.*got 1"),
        (
            lambda: Data(torch.zeros(2, 1), torch.tensor([0, 1]), 3, names=["a", "b"]),
            ValueError,
            "names must be 3",
        ),
        (lambda: Data(torch.zeros(2, 1), names=("a",)), ValueError, "names must be None without labels"),
        (lambda: Data(torch.zeros(2, 1), condition=torch.ones(3, 1)), ValueError, "condition.*3, 1"),
        (lambda: Data(torch.zeros(2, 1), levels=1), ValueError, "levels must be an integer of at least 2; got 1"),
        (
            lambda: Data(torch.full((2, 1), 1.5), levels=256),
            ValueError,
            r"levels must be None for x beyond \[-1, 1\]; got 256 and values from 1.5 to 1.5",
        ),
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
