"""The spiral of the studies: its noised draws have the moments that they must have."""

import pytest
import torch

from genfast.diffusion.process.schedules import as_schedule
from genfast.studies.planes import noised, spiral


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_moments_of_noised_draws(t):
    """Mean alpha m, covariance alpha^2 C + sigma^2 I, of m and C of the mixture."""
    data, schedule = spiral(std=0.2), as_schedule("vp_cosine")
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    mean, eye = data.means.mean(0), torch.eye(2).double()
    covariance = torch.cov(data.means.T, correction=0) + 0.2**2 * eye
    x = noised(data, schedule, t, 20_000, seed=3)
    assert (x.mean(0) - alpha * mean).abs().max() < 0.04
    assert (torch.cov(x.T) - alpha**2 * covariance - sigma**2 * eye).abs().max() < 0.04


def test_draws_are_a_function_of_the_seed():
    data, schedule = spiral(), as_schedule("edm")
    a, b, c = (noised(data, schedule, 0.01, n, seed) for n, seed in ((50, 0), (80, 0), (50, 1)))
    assert torch.equal(a, b[:50]) and not torch.equal(a, c)


def test_the_centers_lie_on_the_spiral():
    means = spiral(500).means
    assert means.norm(dim=1).max() < 2 and bool((means.norm(dim=1).diff() > 0).all())
    theta = torch.linspace(0, 2.5 * torch.pi, 100_000).double()
    curve = torch.stack([theta.cos(), theta.sin()], 1) * (2 * theta / theta[-1])[:, None]
    assert torch.cdist(means, curve).min(1).values.max() < 1e-4
