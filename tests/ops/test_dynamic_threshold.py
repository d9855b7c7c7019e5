"""Dynamic thresholding against torch.quantile, and where torch.quantile gives up."""

import pytest
import torch

from genfast import ops


def by_torch(D, quantile, bound, limit):
    s = torch.quantile(D.double().abs().flatten(1), quantile, dim=1).float().clamp(bound, limit)
    s = s.reshape(-1, *[1] * (D.ndim - 1))
    return torch.minimum(torch.maximum(D, -s), s) * (torch.full_like(s, bound) / s)


@pytest.mark.parametrize("features", [1, 2, 3, 10, 255, 3072, 100_003])
def test_is_torch_quantile(features):
    generator = torch.Generator().manual_seed(features)
    D = 3 * torch.randn(3, features, generator=generator)
    for quantile in (0.0, 0.25, 0.5, 0.9, 0.995, 1.0, 1 / 3):
        for bound, limit in ((1.0, None), (1e-20, None), (0.5, 2.0)):
            out = ops.dynamic_threshold(D, quantile, bound, limit)
            assert torch.equal(out, by_torch(D, quantile, bound, limit)), (quantile, bound)
            assert out.abs().max() <= bound * (1 + 1e-6)


def test_ties_zeros_and_every_size_of_number():
    generator = torch.Generator().manual_seed(0)
    ties = torch.randint(-3, 4, (4, 999), generator=generator).float()
    wild = torch.randn(4, 999, generator=generator) * 10.0 ** torch.randint(-40, 38, (4, 999), generator=generator)
    for D in (ties, wild, torch.zeros(4, 999), -torch.full((4, 999), 7.0)):
        for quantile in (0.0, 0.1, 0.5, 0.77, 1.0):
            for bound in (1e-3, 1.0):
                assert torch.equal(ops.dynamic_threshold(D, quantile, bound), by_torch(D, quantile, bound, None))


def test_a_bound_above_the_quantile_only_clamps():
    D = torch.randn(3, 2, 8, 8)
    assert torch.equal(ops.dynamic_threshold(D, 0.9, 50.0), D)
    assert torch.equal(ops.dynamic_threshold(D, 0.9, 1.0, 1.0), D.clamp(-1, 1))


def test_a_nan_spoils_itself_only():
    D = torch.randn(3, 100)
    out = ops.dynamic_threshold(D, 0.9)
    D[1, 5] = torch.nan
    spoiled = ops.dynamic_threshold(D, 0.9)
    assert torch.equal(spoiled[[0, 2]], out[[0, 2]])
    assert spoiled[1].isnan().nonzero().flatten().tolist() == [5]


def test_samples_that_torch_quantile_refuses():
    """Over 2^24 elements: the answer is known, as |D| is 0, 1, 2, ... in some order, up to float32's own spacing."""
    n = 2**24 + 1000
    with pytest.raises(RuntimeError, match="too large"):
        torch.quantile(torch.zeros(1, n), 0.5)
    D = torch.arange(n, dtype=torch.float32).flip(0)[None]
    D[0, ::2] *= -1
    out = ops.dynamic_threshold(D, 0.9, 1.0)
    s = torch.tensor(0.9 * (n - 1), dtype=torch.float64).round().float()
    expected = torch.maximum(torch.minimum(D, s), -s) * (1 / s)
    assert (out - expected).abs().max() < 2e-7


def test_gradient():
    D = torch.randn(2, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).mul(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda D: ops.dynamic_threshold(D, 0.8), D)
    narrow = D.detach().float().requires_grad_()
    ops.dynamic_threshold(narrow, 0.8).square().sum().backward()
    ops.dynamic_threshold(D, 0.8).square().sum().backward()
    torch.testing.assert_close(narrow.grad.double(), D.grad, rtol=1e-5, atol=1e-6)
