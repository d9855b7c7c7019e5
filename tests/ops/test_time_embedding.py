"""Features of time: exact phases for any t, the usual frequencies, and modules whose dtype changes."""

import copy
import math

import pytest
import torch

from genfast import ops
from genfast.nn.conditioning import FourierFeatures, TimeFeatures

FREQUENCIES = {
    "sinusoidal": ops.sinusoidal_frequencies(65),
    "geometric": ops.geometric_frequencies(64),
    "gaussian": ops.gaussian_frequencies(33, scale=5.0),
}


@pytest.mark.parametrize("name", FREQUENCIES)
def test_a_large_t_loses_nothing(name):
    """Against sine and cosine of the exact product: float32 phases would be off by 1e-2 at 1e6, a bf16 t by radians."""
    frequencies = FREQUENCIES[name]
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 1.0, 30.0, 1000.0, 1e6):
        t = (2 * torch.rand(500, generator=generator) - 1) * size
        phase = t.double()[:, None] * frequencies
        out = ops.time_embedding(t, frequencies).double()
        assert (out[:, : len(frequencies)] - phase.sin()).abs().max() < 1e-7, size
        assert (out[:, len(frequencies) :] - phase.cos()).abs().max() < 1e-7, size
        wide = ops.time_embedding(t.double(), frequencies)
        assert wide.dtype == torch.float64 and (wide - out).abs().max() < 1e-7


def test_every_quarter_turn_is_exact():
    """sin and cos of whole quarter turns, where the polynomials meet: 0 and 1, with their signs."""
    quarters = torch.arange(-9.0, 10.0)
    out = ops.time_embedding(quarters, torch.tensor([math.pi / 2], dtype=torch.float64))
    sine, cosine = torch.tensor([0.0, 1, 0, -1]), torch.tensor([1.0, 0, -1, 0])
    expected = torch.stack([sine[quarters.long() % 4], cosine[quarters.long() % 4]], 1)
    assert (out - expected).abs().max() < 1e-14
    between = ops.time_embedding(quarters + 0.5, torch.tensor([math.pi / 2], dtype=torch.float64))
    torch.testing.assert_close(between.square(), torch.full_like(between, 0.5), rtol=0, atol=1e-7)


def test_layout_and_dtype():
    t, frequencies = torch.tensor([0.3, -2.0]), ops.geometric_frequencies(3, 1.0, 4.0)
    torch.testing.assert_close(frequencies, torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
    sine = torch.stack([(k * t).sin() for k in (1, 2, 4)], 1)
    cosine = torch.stack([(k * t).cos() for k in (1, 2, 4)], 1)
    torch.testing.assert_close(ops.time_embedding(t, frequencies), torch.cat([sine, cosine], 1))
    flipped = ops.time_embedding(t, frequencies, flip=True, dim=9)
    torch.testing.assert_close(flipped, torch.cat([cosine, sine, torch.zeros(2, 3)], 1))
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(
            ops.time_embedding(t, frequencies, dtype=dtype), ops.time_embedding(t, frequencies).to(dtype)
        )
    assert torch.equal(
        ops.time_embedding(torch.tensor([7]), frequencies), ops.time_embedding(torch.tensor([7.0]), frequencies)
    )
    strided = torch.tensor([0.3, 9.0, -2.0, 9.0])[::2]
    assert torch.equal(ops.time_embedding(strided, frequencies), ops.time_embedding(t, frequencies))


def test_log_is_that_of_edm():
    sigma = torch.tensor([0.002, 1.0, 80.0])
    frequencies = FREQUENCIES["gaussian"]
    exact = ops.time_embedding(sigma.double().log() / 4, frequencies)
    assert (ops.time_embedding(sigma, frequencies, log=True) - exact).abs().max() < 1e-7
    assert (ops.time_embedding(sigma.double(), frequencies, log=True) - exact).abs().max() < 1e-14


def test_what_is_not_finite_spoils_its_row_only():
    t = torch.tensor([1.0, math.inf, math.nan, -math.inf])
    out = ops.time_embedding(t, FREQUENCIES["geometric"])
    assert out[1:].isnan().all() and torch.equal(out[:1], ops.time_embedding(t[:1], FREQUENCIES["geometric"]))
    assert ops.time_embedding(torch.tensor([3e38, -3e38]), FREQUENCIES["geometric"]).abs().max() <= 1 + 1e-6


def test_usual_frequencies():
    """Vaswani's run from 1 to just above 1 / 10,000, those of DDPM reach it; the Gaussian ones are N(0, (2 pi s)^2)."""
    plain, shifted = ops.sinusoidal_frequencies(4), ops.sinusoidal_frequencies(5, shift=1)
    expected = torch.tensor([1, 0.1, 0.01, 0.001, 0.0001], dtype=torch.float64)
    torch.testing.assert_close(plain, expected[:4])
    torch.testing.assert_close(shifted, expected)
    torch.testing.assert_close(ops.sinusoidal_frequencies(2, max_period=16.0)[1], torch.tensor(0.25).double())
    many = ops.gaussian_frequencies(10_000, scale=3.0) / (2 * math.pi * 3)
    assert many.mean().abs() < 0.03 and (many.std() - 1).abs() < 0.03
    assert torch.equal(ops.gaussian_frequencies(7, seed=5), ops.gaussian_frequencies(9, seed=5)[:7])
    assert not torch.equal(ops.gaussian_frequencies(7, seed=5), ops.gaussian_frequencies(7, seed=6))


def test_gradient_and_tangent():
    frequencies = ops.geometric_frequencies(3, 0.5, 2.0)
    t = torch.tensor([0.3, -1.0], dtype=torch.float64, requires_grad=True)
    for function in (
        lambda t: ops.time_embedding(t, frequencies, dim=7),
        lambda t: ops.time_embedding(t.square(), frequencies, log=True),
    ):
        assert torch.autograd.gradcheck(function, t)
        assert torch.autograd.gradgradcheck(function, t)
    narrow = t.detach().float().requires_grad_()
    ops.time_embedding(narrow, frequencies).sum().backward()
    ops.time_embedding(t, frequencies).sum().backward()
    torch.testing.assert_close(narrow.grad.double(), t.grad, rtol=1e-6, atol=1e-6)
    tangent = torch.func.jvp(lambda t: ops.time_embedding(t, frequencies), (t.detach().float(),), (torch.ones(2),))[1]
    slope = torch.func.jvp(lambda t: ops.time_embedding(t, frequencies), (t.detach(),), (torch.ones(2).double(),))[1]
    assert slope.abs().max() > 0.1
    torch.testing.assert_close(tangent.double(), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_frequencies_of_a_module_keep_their_bits(dtype):
    features, t = FourierFeatures(16), torch.tensor([0.123, 77.0])
    before = features(t)
    assert not features.state_dict()
    assert torch.equal(copy.deepcopy(features).to(dtype)(t), before)
    assert torch.equal(features.to(dtype).frequencies, ops.geometric_frequencies(8))
    assert features.to("meta").frequencies.device.type == "meta"


def test_features_of_a_module_are_the_function():
    t = torch.tensor([0.5, 80.0])
    module = TimeFeatures(FREQUENCIES["sinusoidal"], flip=True, log=True)
    assert torch.equal(module(t), ops.time_embedding(t, FREQUENCIES["sinusoidal"], flip=True, log=True))


BAD = {
    "t must have shape": lambda f: ops.time_embedding(torch.zeros(2, 1), f),
    r"frequencies must be \(K,\) float64; got float32 \(64,\)": lambda f: ops.time_embedding(torch.zeros(2), f.float()),
    r"frequencies must be \(K,\) float64; got float64 \(1, 64\)": lambda f: ops.time_embedding(torch.zeros(2), f[None]),
    "dim must be an integer of at least 128; got 127": lambda f: ops.time_embedding(torch.zeros(2), f, dim=127),
    "dtype must be float32, bfloat16 or float16; got int64": lambda f: ops.time_embedding(
        torch.zeros(2), f, dtype=torch.int64
    ),
    "shift must be a finite number below 1; got 1": lambda f: ops.sinusoidal_frequencies(1, shift=1),
    "max_period must be a finite number above 0; got 0": lambda f: ops.sinusoidal_frequencies(4, max_period=0),
    "first must be a finite number above 0; got 0.0": lambda f: ops.geometric_frequencies(4, first=0.0),
}


@pytest.mark.parametrize("message", BAD)
def test_refused(message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        BAD[message](FREQUENCIES["geometric"])
