"""Features are functions of one sample; fingerprints change with what they stand for and not otherwise."""

import numpy as np
import pytest
import torch
from torch import nn

from genfast import features
from genfast.data.builtin import digits
from genfast.data.dataset import arrays
from genfast.features import Features, as_features, extract, fingerprint


class Noisy(nn.Module):
    """Differs between training and evaluation, and has parts in different modes."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.norm(self.mix(x)))[:, None]


def extractors():
    torch.manual_seed(0)
    image = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 20))
    return {
        "pixels": features.pixels((1, 8, 8)),
        "random_conv": features.random_conv((1, 8, 8)),
        "module": features.module(image, shape=(1, 8, 8)),
    }


@pytest.mark.parametrize("name", extractors())
def test_protocol(name):
    f, x = extractors()[name], digits().x[:9]
    assert isinstance(f, Features)
    assert f(x).shape == (9, f.dim) and f(x).dtype == torch.float32
    assert len(f.fingerprint) == 16 and int(f.fingerprint, 16) >= 0


@pytest.mark.parametrize("name", extractors())
def test_extraction_in_parts_is_that_of_the_whole(name):
    """Bit for bit, wherever a sample stands in its chunk and however many there are."""
    f, x = extractors()[name], digits().x[:200]
    whole = extract(f, x)
    assert whole.shape == (200, f.dim)
    for first, last in ((0, 1), (0, 130), (1, 200), (63, 65), (131, 200), (199, 200)):
        assert torch.equal(extract(f, x[first:last]), whole[first:last])
    torch.testing.assert_close(extract(f, x, batch=7), whole, rtol=1e-5, atol=1e-5)
    assert torch.equal(extract(f, x.double().numpy()), whole)
    assert torch.equal(extract(f, arrays(x)), whole)


def test_every_call_has_the_same_shape():
    seen = []

    class Counting(features.Network):
        def __call__(self, x):
            seen.append(len(x))
            return super().__call__(x)

    f = Counting(nn.Flatten(), "counting", (2,))
    extract(f, torch.rand(11, 2), batch=4)
    assert seen == [1, 4, 4, 4]  # the first for the dimension


def test_fingerprint_says_weights_and_settings():
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}
    mark = fingerprint(state, size=299, mode="x")
    assert mark == fingerprint(dict(reversed(state.items())), mode="x", size=299)
    assert mark == fingerprint({"a": state["a"].T.contiguous().T, "b": state["b"]}, size=299, mode="x")
    nearly = torch.nextafter(state["a"], torch.tensor(torch.inf))
    others = [
        fingerprint(state, size=300, mode="x"),
        fingerprint(state, size=299),
        fingerprint(state | {"a": nearly}, size=299, mode="x"),
        fingerprint(state | {"a": state["a"].reshape(3, 2)}, size=299, mode="x"),
        fingerprint(state | {"b": torch.tensor(3, dtype=torch.int32)}, size=299, mode="x"),
        fingerprint({"a": state["a"], "c": state["b"]}, size=299, mode="x"),
        fingerprint({"a": state["a"].bfloat16(), "b": state["b"]}, size=299, mode="x"),
    ]
    assert len({mark, *others}) == 8
    assert fingerprint({}) == fingerprint({})


def test_fingerprint_of_views():
    """Strides are no part of it, not even those of a single row, which count for nothing."""
    x = torch.arange(12.0, dtype=torch.float64).reshape(3, 4)
    for view in (x.T, x[:1].T, x[:, :1].T, x[0, :1], x.flatten().as_strided((1,), (4,))):
        assert fingerprint({"w": view}) == fingerprint({"w": torch.tensor(view.tolist(), dtype=torch.float64)})


def test_fingerprints_of_extractors():
    """The same for the same thing made twice, different for different shapes, weights, classes; not for other names."""
    net = nn.Linear(4, 2)
    marks = [
        features.pixels((1, 8, 8)).fingerprint,
        features.pixels((64,)).fingerprint,
        features.random_conv((1, 8, 8)).fingerprint,
        features.random_conv((3, 8, 8)).fingerprint,
        features.random_conv((1, 8, 9)).fingerprint,
        features.module(net, shape=(4,)).fingerprint,
        features.module(nn.Sequential(net), shape=(4,)).fingerprint,
        features.module(nn.Linear(4, 2), shape=(4,)).fingerprint,
    ]
    assert len(set(marks)) == 8
    assert features.random_conv((1, 8, 8)).fingerprint == marks[2]
    f = features.module(net, "mine", shape=(4,))
    assert f.fingerprint == marks[5] and f.name == "mine"
    net.weight.data[0, 0] += 1
    assert f.fingerprint != marks[5]


def test_module_is_evaluated_and_left_alone():
    net = Noisy()
    net.norm.eval()
    before = net.norm.running_mean.clone()
    f = features.module(net, shape=(4,))
    x = torch.randn(5, 4)
    assert (f.dim, f.name) == (3, "Noisy")
    with torch.autocast("cpu", torch.bfloat16):
        first = f(x)
    assert torch.equal(first, f(x)) and not first.requires_grad
    torch.testing.assert_close(first, net.mix(x) / 1.00001**0.5, rtol=1e-6, atol=1e-6)
    assert net.training and net.drop.training and not net.norm.training and torch.equal(net.norm.running_mean, before)


def test_random_conv_weights_are_frozen():
    """The same bits on any machine: a report of today must compare with one of next year."""
    state = torch.get_rng_state()
    assert features.random_conv((1, 8, 8)).fingerprint == "70170af05f0bc141"
    assert features.random_conv((3, 32, 32)).fingerprint == "fb3d3f201ec295a9"
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 11), (1, 28, 28), (3, 64, 40)])
def test_random_conv_takes_any_size(shape):
    f = features.random_conv(shape)
    x = torch.rand(3, *shape) * 2 - 1
    y = f(x)
    assert y.shape == (3, 288) and torch.isfinite(y).all()
    assert not torch.equal(y[0], y[1])
    torch.testing.assert_close(f(x.flip(0)).flip(0), y)


def test_random_conv_equals_its_formula():
    """In float64 by unfolding, stage by stage."""
    f, x = features.random_conv((3, 10, 9)), torch.rand(2, 3, 10, 9) * 2 - 1
    hidden, parts = x.double(), []
    for index, stage in enumerate(f.net.stages):
        if index:
            rows, columns = hidden.shape[2] // 2 * 2, hidden.shape[3] // 2 * 2
            hidden = sum(hidden[:, :, i:rows:2, j:columns:2] for i in (0, 1) for j in (0, 1)) / 4
        height, width = hidden.shape[2:]
        padded = nn.functional.pad(hidden, (1, 1, 1, 1), mode="replicate")
        near = torch.stack([padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)], 2)
        weight = stage.weight.double().flatten(2)
        hidden = torch.einsum("oik,bikhw->bohw", weight, near) + stage.bias.double()[:, None, None]
        hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
        parts += [hidden.mean((2, 3)), hidden.var((2, 3), correction=0).sqrt()]
        assert abs(weight.std() * (9 * weight.shape[1] / 2) ** 0.5 - 1) < 0.1 and abs(weight.mean()) < 0.02
    torch.testing.assert_close(f(x).double(), torch.cat(parts, 1), rtol=1e-5, atol=1e-5)


def test_as_features():
    f = features.pixels((2,))
    assert as_features(f, (2,)) is f
    assert as_features(None, (1, 8, 8)).name == "pixels"
    assert as_features(None, (3, 32, 32)).name == "random_conv"
    assert as_features(None, (300,)).name == as_features(None, (5, 16, 16)).name == "pixels"
    assert as_features(None, (1, 4, 300)).name == "pixels"
    assert as_features("random_conv", (1, 8, 8)).name == "random_conv"
    assert as_features(nn.Linear(4, 2), (4,)).dim == 2


class Wrong:
    name, dim, fingerprint = "wrong", 2, "0"

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, x):
        return self.answer(x)


@pytest.mark.parametrize(
    "build, error, words",
    [
        (lambda: as_features("inceptoin", (1, 8, 8)), ValueError, "features.*pixels.*'inceptoin'"),
        (lambda: as_features(3, (1, 8, 8)), TypeError, "features.*Module.*int"),
        (lambda: as_features(features.Network, (1, 8, 8)), TypeError, "features.*type"),
        (lambda: as_features(None, ()), ValueError, "shape"),
        (lambda: as_features(None, (1, 0, 8)), ValueError, r"shape.*\(1, 0, 8\)"),
        (lambda: features.random_conv((2, 8, 8)), ValueError, r"shape.*\(2, 8, 8\)"),
        (lambda: features.random_conv((1, 7, 8)), ValueError, "shape.*8 x 8"),
        (lambda: features.random_conv((64,)), ValueError, "shape"),
        (lambda: features.pixels((2,))(torch.zeros(3, 3)), ValueError, r"x.*\(B, 2\).*\(3, 3\)"),
        (lambda: features.pixels((2,))(torch.zeros(3, 2).double()), TypeError, "x.*float64"),
        (lambda: features.pixels((2,))(np.zeros((3, 2))), TypeError, "x.*ndarray"),
        (lambda: features.module(torch.sin, shape=(2,)), TypeError, "net.*builtin"),
        (lambda: features.module(nn.LSTM(2, 2), shape=(3, 2)), TypeError, "net.*tuple"),
        (lambda: features.module(nn.Flatten(0), shape=(2,)), TypeError, r"net.*\(1, \*\).*\(2,\)"),
        (lambda: extract("pixels", torch.zeros(2, 2)), TypeError, "features.*str"),
        (lambda: extract(features.pixels((2,)), torch.zeros(2, 2), batch=0), ValueError, "batch.*0"),
        (lambda: extract(features.pixels((2,)), torch.zeros(2, 2).int()), TypeError, "int32"),
        (lambda: extract(Wrong(lambda x: x[:, :1]), torch.zeros(2, 2)), RuntimeError, r"wrong.*\(64, 2\).*\(64, 1\)"),
        (lambda: extract(Wrong(lambda x: x.double()), torch.zeros(2, 2)), RuntimeError, "wrong.*float64"),
        (
            lambda: extract(Wrong(lambda x: 1 / x), torch.tensor([[1.0, 1.0], [1.0, 0.0]])),
            RuntimeError,
            "wrong.*sample 1",
        ),
    ],
)
def test_bad_input(build, error, words):
    with pytest.raises(error, match=words):
        build()
