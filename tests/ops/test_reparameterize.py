"""ops.reparameterize: what is special to it; accuracy, bits and gradients of every op are in test_ops.py."""

import pytest
import torch
from helpers import normal32
from torch.distributions import Normal, kl_divergence

from genfast import ops


def test_closed_form():
    """KL to 1e-12 of torch.distributions, z from the noise of (key, step, purpose)."""
    mu, logvar, key = 3 * normal32(5, 7).double(), 2 * normal32(5, 7, seed=1).double(), ops.make_key(3, 5)
    z, kl = ops.reparameterize(mu, logvar, key, step=4)
    q = Normal(mu, (0.5 * logvar).exp())
    torch.testing.assert_close(kl, kl_divergence(q, Normal(0.0, 1.0)).sum(1), rtol=1e-12, atol=1e-12)
    eps = ops.normal(key, (7,), ops.Purpose.LATENT, 4, torch.float64)
    torch.testing.assert_close(z, mu + q.scale * eps, rtol=1e-14, atol=1e-14)


def test_the_noise_is_that_of_normal():
    key = ops.make_key(9, 6)
    for shape in ((6, 1), (6, 300), (6, 3, 5, 7)):
        zero = torch.zeros(shape)
        z, kl = ops.reparameterize(zero, zero, key, step=2, purpose=ops.Purpose.TRAIN)
        torch.testing.assert_close(z, ops.normal(key, shape[1:], ops.Purpose.TRAIN, 2), rtol=3e-7, atol=0)
        assert kl.abs().max() <= 1e-5


def test_moments():
    """The draws have the mean and the variance that they should, to 4 standard errors."""
    n = 40_000
    mu, logvar = torch.tensor([1.5, -2.0]).expand(n, 2), torch.tensor([-1.0, 2.0]).expand(n, 2)
    z = ops.reparameterize(mu, logvar, ops.make_key(0, n))[0].double()
    variance = logvar[0].double().exp()
    assert ((z.mean(0) - mu[0]).abs() < 4 * (variance / n).sqrt()).all()
    assert ((z.var(0) / variance - 1).abs() < 4 * (2 / n) ** 0.5).all()


def test_wide_range_of_variances():
    """As torch far from 0: finite in z up to 176, infinite in KL from 88.8 on, zero variance at -200."""
    logvar = torch.tensor([[-200.0, -80.0, 0.0, 30.0, 80.0, 88.7, 88.8, 170.0]]).T
    mu, key = torch.full_like(logvar, 0.5), ops.make_key(1, len(logvar))
    z, kl = ops.reparameterize(mu, logvar, key)
    expected_z, expected_kl = ops.reparameterize_reference(mu, logvar, ops.normal(key, (1,), ops.Purpose.LATENT))
    assert torch.isfinite(z).all() and kl.isinf().tolist() == [False] * 6 + [True] * 2
    torch.testing.assert_close(z, expected_z, rtol=1e-5, atol=0)
    torch.testing.assert_close(kl, expected_kl, rtol=1e-5, atol=0)


def test_nan_is_seen():
    mu, logvar = torch.zeros(3, 4), torch.zeros(3, 4)
    mu[0, 1] = logvar[1, 2] = torch.nan
    z, kl = ops.reparameterize(mu, logvar, ops.make_key(0, 3))
    assert kl.isnan().tolist() == [True, True, False] and z[0, 1].isnan() and z[1, 2].isnan()


@pytest.mark.parametrize("wanted", ["z", "kl"])
def test_a_gradient_of_one_output(wanted):
    mu, logvar, key = normal32(4, 9).requires_grad_(), normal32(4, 9, seed=1).requires_grad_(), ops.make_key(0, 4)
    picked = {"z": 0, "kl": 1}[wanted]
    out = ops.reparameterize(mu, logvar, key)[picked].sum()
    eps = ops.normal(key, (9,), ops.Purpose.LATENT)
    expected = ops.reparameterize_reference(mu, logvar, eps)[picked].sum()
    for a, b in zip(torch.autograd.grad(out, (mu, logvar)), torch.autograd.grad(expected, (mu, logvar)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_halves_of_one_tensor():
    """What an encoder gives, two halves of a tensor: copied, with the gradient of the whole."""
    for shape in ((4, 10), (4, 6, 5, 5)):
        whole, key = normal32(*shape).requires_grad_(), ops.make_key(0, 4)
        z, kl = ops.reparameterize(*whole.chunk(2, 1), key)
        parts = [part.detach().contiguous().requires_grad_() for part in whole.chunk(2, 1)]
        other_z, other_kl = ops.reparameterize(*parts, key)
        assert torch.equal(z, other_z) and torch.equal(kl, other_kl)
        (z.sum() + kl.sum()).backward(), (other_z.sum() + other_kl.sum()).backward()
        assert torch.equal(whole.grad, torch.cat([part.grad for part in parts], 1))


def test_bad_input():
    mu, key = torch.zeros(3, 4), ops.make_key(0, 3)
    with pytest.raises(ValueError, match=r"reparameterize: logvar must have the shape of mu, \(3, 4\); got \(3, 5\)"):
        ops.reparameterize(mu, torch.zeros(3, 5), key)
    with pytest.raises(RuntimeError, match="logvar must be float32; got bfloat16"):
        ops.reparameterize(mu, mu.bfloat16(), key)
    with pytest.raises(RuntimeError, match="mu must be float32, bfloat16 or float16; got int64"):
        ops.reparameterize(mu.long(), mu.long(), key)
    with pytest.raises(RuntimeError, match=r"key must have shape \(3, 2\); got \(2, 2\)"):
        ops.reparameterize(mu, mu, key[:2].contiguous())
    with pytest.raises(ValueError, match="step must be an integer from 0"):
        ops.reparameterize(mu, mu, key, step=-1)
