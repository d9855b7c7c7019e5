"""Bits per dimension against models whose bits are known, and the likelihood of a Diffusion."""

import functools
import math

import pytest
import torch
from helpers import perturbed

from genfast import nn, ops
from genfast.diffusion import likelihood
from genfast.diffusion.model import Diffusion
from genfast.diffusion.process import schedules
from genfast.diffusion.process.denoisers import X0, Denoiser
from genfast.gaussian.denoiser import GaussianMixtureDenoiser

log_likelihood = functools.partial(likelihood.log_likelihood, progress=False)
bits_per_dim = functools.partial(likelihood.bits_per_dim, progress=False)

VP = schedules.VPLinear()


def linear(y, c_noise):
    """A network of elementwise operations, whose rounding cannot depend on the batch."""
    return 0.7 * y - 0.4 * y.roll(1, 1) + c_noise.view(-1, 1)


def uniform_model(half_width):
    """The exact denoiser of the uniform density on [-half_width, half_width]^d, with EDM's schedule."""

    def denoise(x, t):
        s = 80 * t.view(-1, 1)
        right, left = (half_width - x) / s, (-half_width - x) / s
        density = torch.special.ndtr(right) - torch.special.ndtr(left)
        slope = (torch.exp(-(left**2) / 2) - torch.exp(-(right**2) / 2)) / math.sqrt(2 * math.pi)
        return x + s * slope / density

    class Plain(X0):
        def c_in(self, alpha, sigma):
            return torch.ones_like(sigma)

    return Denoiser(denoise, schedules.EDM(), Plain())


def test_uniform_model_is_8_bits_in_either_scale():
    """The bins of integers tile [-1, 1]; those around the points k / 127.5 - 1 tile a little more."""
    k = torch.tensor([[20, 40, 90], [128, 201, 230], [127, 100, 60]])
    integers = bits_per_dim(uniform_model(1.0), k, chunk=3)
    points = bits_per_dim(uniform_model(256 / 255), k / 127.5 - 1, chunk=3)
    for bits in (integers.bits, points.bits):
        assert (bits - 8).abs().max() < 1e-3
    # One taken for the other is off by log2(256 / 255) = 0.0056.
    assert (bits_per_dim(uniform_model(1.0), k / 127.5 - 1, chunk=3).bits - 8).abs().min() > 5e-3


@pytest.mark.parametrize("scaled", [False, True])
def test_bits_against_the_integral_over_the_bin(scaled):
    """-E_u log2 p over the bin of each value by quadrature, and a bound on -log2 of the bin's mass."""
    levels, draws = 5, 12
    exact = GaussianMixtureDenoiser([0.4, 0.6], [[-0.6], [0.4]], [0.1, 0.05], VP)
    k = torch.arange(levels)[:, None]
    width = 2 / (levels - 1) if scaled else 2 / levels
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    left = 2 * k / (levels - 1) - 1 - width / 2 if scaled else k * width - 1
    log_p = exact.log_prob((left + width * u).view(-1, 1)).view(levels, -1) / math.log(2)
    x = 2 * k / (levels - 1) - 1 if scaled else k
    bits, se = bits_per_dim(exact, x, levels=levels, draws=draws, prior=exact.log_prob, steps=25, chunk=levels)
    expected = -log_p.mean(1) - math.log2(width)
    assert ((bits - expected) / se).abs().max() < 4 and (se / expected.abs()).max() < 0.2
    assert (expected + torch.log2(torch.exp2(log_p).mean(1) * width) > 0).all()
    one = bits_per_dim(exact, x, levels=levels, prior=exact.log_prob, steps=25, chunk=levels)
    assert one.se.isnan().all() and ((one.bits - expected) / se).abs().max() < 4 * math.sqrt(draws)


def test_draws_have_their_own_noise_and_probes():
    denoiser = Denoiser(linear, VP, "v")
    k = torch.tensor([[0, 128, 255], [3, 4, 5]])
    run = functools.partial(bits_per_dim, denoiser, steps=4, chunk=2, divergence="gaussian")
    two, one = run(k, draws=2), run(k)
    second = 2 * two.bits - one.bits
    key = ops.make_key(0, 2)
    x = 2 * (k + ops.uniform(key, (3,), ops.Purpose.DEQUANTIZE, 1, dtype=torch.float64)) / 256 - 1
    nats = log_likelihood(denoiser, x, steps=4, chunk=2, divergence="gaussian", first_probe=1).nats
    assert torch.allclose(second, 7 - nats / (3 * math.log(2)), rtol=1e-9)
    assert torch.allclose(two.se, (second - one.bits).abs() / 2, rtol=1e-6)
    assert torch.equal(run(k[1:], index=[1], draws=2).bits, two.bits[1:])


# A diffusion model ----------------------------------------------------------------------------------------------------


def test_diffusion_model():
    model = Diffusion(perturbed(nn.MLP(2, width=16, depth=2, classes=2)), "vp_cosine", shape=(2,)).train()
    model.net.eval()
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([0, 1, 1, 0, -1])
    options = {"steps": 5, "progress": False}
    nats, _ = model.log_likelihood(x, label=label, **options)
    assert model.training and not model.net.training
    assert torch.equal(nats, log_likelihood(model.denoiser, x, steps=5, condition={"label": label % 3}).nats)
    unconditional = log_likelihood(model.denoiser, x, steps=5, condition={"label": torch.full((5,), 2)}).nats
    assert torch.equal(model.log_likelihood(x, **options).nats, unconditional)
    k = torch.tensor([[0, 255], [7, 100]])
    bits, _ = model.bits_per_dim(k, label=1, draws=2, **options)
    condition = {"label": torch.ones(2, dtype=torch.int64)}
    assert torch.equal(bits, bits_per_dim(model.denoiser, k, draws=2, steps=5, condition=condition).bits)
    with pytest.raises(ValueError, match=r"x must have shape \(N, 2\)"):
        model.log_likelihood(torch.zeros(3, 4))
    with pytest.raises(TypeError, match="x must be a tensor"):
        model.bits_per_dim([[1, 2]])
    assert model.training


def test_diffusion_model_is_in_eval_mode_during_the_call():
    class Drop(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.drop = torch.nn.Linear(2, 2), torch.nn.Dropout(0.5)

        def forward(self, y, t):
            return self.drop(self.linear(y))

    model = Diffusion(Drop(), "flow").train()
    first, second = (model.log_likelihood(torch.ones(2, 2), steps=3, progress=False).nats for _ in range(2))
    assert torch.equal(first, second) and model.net.drop.training


@pytest.mark.parametrize(
    "error, match, change",
    [
        (TypeError, "x must be a tensor", {"x": [[1, 2]]}),
        (ValueError, r"x must have shape \(N, \*\)", {"x": torch.tensor([1, 2])}),
        (ValueError, "integers from 0 to levels - 1; got levels = 256 and values", {"x": torch.tensor([[3, 256]])}),
        (ValueError, "integers from 0", {"x": torch.tensor([[-1, 2]])}),
        (ValueError, "equal distances; got levels = 256", {"x": torch.tensor([[0.125, -1.0]])}),
        (ValueError, "equal distances", {"x": torch.tensor([[3.0, 1.0]])}),
        (ValueError, "equal distances", {"x": torch.tensor([[math.nan, 1.0]])}),
        (ValueError, "levels must be an integer of at least 2", {"levels": 1}),
        (ValueError, "draws must be an integer of at least 1", {"draws": 0}),
        (ValueError, "index must have shape", {"index": [1]}),
    ],
)  # fmt: skip
def test_bad_arguments_of_bits(error, match, change):
    arguments = {"denoiser": Denoiser(linear, VP, "v"), "x": torch.tensor([[0, 1], [2, 3]]), "steps": 1} | change
    with pytest.raises(error, match=match):
        bits_per_dim(**arguments)
