"""The Langevin corrector: the formula of its paper, and the distribution that it must leave alone."""

import math

import torch

from genfast import ops


def corrector(x, net, key, *, sigma=1.0, snr=0.16, alpha=1.0, **more):
    """langevin of a network that predicts the noise: D = (x - sigma F) / alpha."""
    rows = {"alpha": alpha, "sigma": sigma, "snr": snr, "c_skip": 1 / alpha, "c_out": -sigma / alpha}
    x = x.clone()
    ops.langevin(
        x, net, key, **{name: value * torch.ones(len(x), dtype=x.dtype) for name, value in rows.items()}, **more
    )
    return x


def test_the_step_of_the_paper():
    """eps = 2 (snr |z| / |g|)^2 and x + eps g + sqrt(2 eps) z, from g = -F / sigma."""
    generator = torch.Generator().manual_seed(0)
    x, net = torch.randn(4, 3, 5, generator=generator), torch.randn(4, 3, 5, generator=generator)
    key = ops.make_key(5, [9, 2, 4, 2**40])
    for step in (0, 3):
        z = ops.normal(key, (3, 5), ops.Purpose.CORRECTOR, step, torch.float64)
        g = -net.double() / 0.4
        eps = 2 * (0.16 * z.flatten(1).norm(dim=1) / g.flatten(1).norm(dim=1)) ** 2
        eps = eps[:, None, None]
        expected = x + eps * g + (2 * eps).sqrt() * z
        for dtype, tolerance in ((torch.float32, 2e-6), (torch.float64, 1e-13)):
            out = corrector(x.to(dtype), net.to(dtype), key, sigma=0.4, alpha=0.7, step=step)
            assert out.dtype == dtype and (out - expected).abs().max() < tolerance


def test_gaussians_stay_what_they_are():
    """x ~ N(0, I) with its score: variance 1 up to the bias of a finite step, and far from the start."""
    key, features = ops.make_key(1, 256), 512
    x = start = ops.normal(key, (features,), ops.Purpose.PRIOR)
    for step in range(100):
        x = corrector(x, x, key, snr=0.16, step=step)
    assert abs(x.var().item() - 1.026) < 0.01  # unadjusted Langevin settles at 1 / (1 - eps / 2), eps = 2 snr^2
    assert abs((x * start).mean().item()) < 0.02
    shrunk = corrector(0.5 * start, 0.5 * start, key)
    assert shrunk.var() > 0.26  # it is drawn towards 1


def test_a_vanishing_score_moves_nothing():
    x = torch.randn(3, 7)
    net = torch.randn(3, 7)
    net[1] = 0
    y = torch.full((3, 7), 9.0)
    out = corrector(x, net, ops.make_key(0, 3), y=y, c_in=torch.tensor([2.0, 3.0, 4.0]))
    assert torch.equal(out[1], x[1]) and not (out[[0, 2]] == x[[0, 2]]).any()
    assert torch.equal(y, torch.tensor([2.0, 3.0, 4.0])[:, None] * out)
    assert torch.equal(corrector(x, net, ops.make_key(0, 3), sigma=0.0), x)


def test_small_and_large_sigma_do_not_overflow():
    """The score is of the size 1 / sigma, and the step of sigma^2: neither fits a float32 by itself."""
    x, net, key = torch.randn(4, 100), torch.randn(4, 100), ops.make_key(0, 4)
    unit = corrector(torch.zeros_like(x), net, key)
    for sigma in (1e-15, 1e15):
        moved = corrector(torch.zeros_like(x), net, key, sigma=sigma)
        torch.testing.assert_close(moved / sigma, unit, rtol=1e-5, atol=1e-6)


def test_norms_are_those_of_a_sample():
    """A batch-mate a million times as large changes nothing."""
    x, net, key = torch.randn(4, 50), torch.randn(4, 50), ops.make_key(0, 4)
    loud = net * torch.tensor([1.0, 1e6, 1.0, 1.0])[:, None]
    assert torch.equal(corrector(x, loud, key)[[0, 2, 3]], corrector(x, net, key)[[0, 2, 3]])
    ratio = (corrector(x, loud, key)[1] - corrector(x, net, key)[1]).abs().max()
    assert math.isfinite(ratio) and ratio > 0.01


def test_a_guidance_of_one_is_the_conditional_network_exactly():
    """However large the other network's answer is."""
    generator = torch.Generator().manual_seed(3)
    x, net, other = (torch.randn(4, 33, generator=generator) for _ in range(3))
    ones, key = torch.ones(4), ops.make_key(0, 4)
    settings = {"alpha": ones, "sigma": 0.5 * ones, "snr": 0.2 * ones, "c_skip": ones, "c_out": 0.3 * ones}
    plain, guided = x.clone(), x.clone()
    ops.langevin(plain, net, key, **settings)
    ops.langevin(guided, net, key, **settings, unconditional=1e4 * other, guidance=ones)
    assert torch.equal(guided, plain) and not torch.equal(plain, x)
