"""The plain network of vectors: its formula, rows on their own, and that it is rebuilt."""

import json

import pytest
import torch

from genfast.nn import NETWORKS, FeedForward


def net(**settings):
    torch.manual_seed(0)
    return FeedForward(**{"inputs": 3, "outputs": 2, "width": 8, "depth": 2} | settings)


X = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("act", ["silu", "relu"])
def test_formula(act):
    made = net(fourier=4, frequency=1.5, act=act).double()
    x, activation = X.double(), getattr(torch.nn.functional, act)
    phase = x @ made.frequencies.T
    h = torch.cat([x, phase.sin(), phase.cos()], 1)
    weights = list(made.parameters())
    for layer in range(3):
        h = h @ weights[2 * layer].T + weights[2 * layer + 1]
        h = activation(h) if layer < 2 else h
    torch.testing.assert_close(made(x), h)
    assert [tuple(weight.shape) for weight in weights[::2]] == [(8, 11), (8, 8), (2, 8)]


def test_frequencies():
    """Normal numbers of the standard deviation that is asked for, the same in every network of that shape."""
    drawn = net(fourier=2000, frequency=3.0).frequencies
    assert drawn.std().item() == pytest.approx(3, rel=0.05) and abs(drawn.mean().item()) < 0.2
    torch.manual_seed(7)
    assert torch.equal(FeedForward(3, 1, fourier=2000, frequency=3.0).frequencies, drawn)


def test_features_see_what_is_close():
    """Points at 0.05 from one another: with features their answers differ more, at the same weights' scale."""
    x = torch.stack([X[0], X[0] + 0.05])

    def slope(fourier):
        made = [FeedForward(3, 1, fourier=fourier, frequency=10.0)(x).diff(dim=0).abs() for _ in range(50)]
        return torch.stack(made).mean().item()

    torch.manual_seed(0)
    assert slope(32) > 3 * slope(0)


@pytest.mark.parametrize("fourier", [0, 4])
def test_rows_apart_and_rebuilt(fourier):
    made = net(fourier=fourier)
    for row in range(5):
        torch.testing.assert_close(made(X[row : row + 1]), made(X)[row : row + 1])
    again = NETWORKS["FeedForward"](**json.loads(json.dumps(made.config)))
    again.load_state_dict(made.state_dict())
    assert torch.equal(again(X), made(X))


@pytest.mark.parametrize("settings, words", [
    ({"inputs": 0}, r"inputs.*0"), ({"width": 2.5}, r"width.*2\.5"), ({"depth": 0}, r"depth.*0"),
    ({"fourier": -1}, r"fourier.*-1"), ({"frequency": 0.0}, r"frequency.*0\.0"), ({"act": "tan"}, r"act.*relu.*'tan'"),
])  # fmt: skip
def test_bad_settings(settings, words):
    with pytest.raises(ValueError, match=words):
        net(**settings)


@pytest.mark.parametrize("x", [torch.zeros(3), torch.zeros(5, 2), torch.zeros(1, 3, 1)])
def test_bad_input(x):
    with pytest.raises(ValueError, match=r"x must have shape \(B, 3\)"):
        net()(x)
