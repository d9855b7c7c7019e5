"""p(x | z): every likelihood is one, its draws follow it, and it says what it cannot take."""

import math

import pytest
import torch
from helpers import normal
from torch.distributions import Bernoulli, Normal

from genfast import ops
from genfast.vae.likelihoods import LIKELIHOODS, DiscretizedLogistic, Gaussian, LearnedVariance, as_likelihood, describe


def levels_of(count):
    return torch.linspace(-1, 1, count, dtype=torch.float64)


def test_gaussian_is_that_of_torch():
    x, f = normal(5, 3, 2), normal(5, 3, 2, seed=1)
    expected = Normal(f, 0.3).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(Gaussian(0.3).log_prob(x, f), expected, rtol=1e-12, atol=1e-12)
    learned = LearnedVariance((3, 1)).double()
    learned.free.data = torch.tensor([[-0.2], [0.05], [0.3]], dtype=torch.float64)
    expected = Normal(f, (0.5 * learned.log_variance(f)).exp()).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(learned.log_prob(x, f), expected, rtol=1e-12, atol=1e-12)


def test_learned_variance_has_a_floor():
    likelihood = LearnedVariance(floor=-4.0)
    assert abs(float(likelihood.log_variance(torch.zeros(1, 1)).detach()) - math.log1p(math.exp(4)) + 4) < 1e-6
    likelihood.free.data.fill_(-1e3)
    assert likelihood.log_variance(torch.zeros(1, 1)).item() == -4.0


def test_bernoulli_sums_to_one():
    f, either = normal(4, 6), torch.ones(4, 6, dtype=torch.float64)
    likelihood = as_likelihood("bernoulli")
    x = torch.where(normal(4, 6, seed=1) > 0, either, -either)
    expected = Bernoulli(logits=f).log_prob((x + 1) / 2).sum(1)
    torch.testing.assert_close(likelihood.log_prob(x, f), expected, rtol=1e-12, atol=1e-12)
    one = f[:, :1]
    total = likelihood.log_prob(either[:, :1], one).exp() + likelihood.log_prob(-either[:, :1], one).exp()
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("count", [2, 3, 17, 256])
@pytest.mark.parametrize("scale", [-6.0, -1.0, 2.0])
def test_discretized_logistic_sums_to_one(count, scale):
    """Over its levels, from a mean inside, at an edge and far outside; and each as the difference of sigmoids."""
    likelihood = DiscretizedLogistic(count).double()
    likelihood.free.data.fill_(scale / 10)
    x = levels_of(count)[:, None]
    for mean in (0.1, 1.0, -7.0):
        log_p = likelihood.log_prob(x, torch.full_like(x, mean))
        assert abs(log_p.logsumexp(0).item()) < 1e-9
        s, h = likelihood.log_scale.exp().item(), 1 / (count - 1)
        upper = torch.where(x > 1 - h, 1.0, ((x + h - mean) / s).sigmoid())
        lower = torch.where(x < h - 1, 0.0, ((x - h - mean) / s).sigmoid())
        torch.testing.assert_close(log_p.exp(), (upper - lower)[:, 0], rtol=1e-6, atol=1e-12)


def test_discretized_logistic_in_the_tail():
    """400 scales away, where both sigmoids are 1 in float64: finite, with a gradient that points back."""
    likelihood = DiscretizedLogistic(256)
    likelihood.free.data.fill_(-0.6)
    x, f = torch.full((1, 1), 64 / 127.5 - 1), torch.full((1, 1), 0.5, requires_grad=True)
    log_p = likelihood.log_prob(x, f)
    (slope,) = torch.autograd.grad(log_p, f)
    assert torch.isfinite(log_p).all() and float(slope) < -100


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_draws_have_the_mean_that_it_says(name):
    n = 20_000
    likelihood = as_likelihood(name)
    f = torch.tensor([[-0.4, 0.3]]).expand(n, 2)
    x = likelihood.draw(f, ops.make_key(0, n))
    likelihood.check(x)
    if name == "discretized_logistic":  # its mean is that of the undiscretized one: mirror the edges away
        likelihood.free.data.fill_(-0.3)
        x = likelihood.draw(f, ops.make_key(0, n))
    assert ((x.mean(0) - likelihood.mean(f)[0]).abs() < 4 * x.std(0) / n**0.5 + 1e-3).all()
    assert torch.equal(x[5:9], likelihood.draw(f[5:9], ops.make_key(0, torch.arange(5, 9))))


def test_draws_follow_the_discretized_logistic():
    likelihood, n = DiscretizedLogistic(5), 40_000
    x = likelihood.draw(torch.full((n, 1), 0.3), ops.make_key(0, n))[:, 0]
    levels = levels_of(5).float()[:, None]
    p = likelihood.log_prob(levels, torch.full((5, 1), 0.3)).exp().detach()
    share = (x[None] == levels).float().mean(1)
    assert ((share - p).abs() < 4 * (p * (1 - p) / n).sqrt()).all() and float(share.sum()) == 1


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_described(name):
    found = describe(as_likelihood(name))
    assert found["name"] == name and describe(LIKELIHOODS[name](**found["arguments"])) == found


def test_bad_input():
    with pytest.raises(ValueError, match=r"likelihood must be one of gaussian, .*got 'normal'"):
        as_likelihood("normal")
    with pytest.raises(TypeError, match=r"name or one of genfast\.vae\.likelihoods; got Linear"):
        as_likelihood(torch.nn.Linear(1, 1))
    for sigma in (0, -1.0, True, math.inf):
        with pytest.raises(ValueError, match="sigma must be a finite number above 0; got"):
            Gaussian(sigma)
    with pytest.raises(ValueError, match="levels must be an integer of at least 2; got 1"):
        DiscretizedLogistic(1)
    with pytest.raises(ValueError, match=r"x must lie in \[-1, 1\] .*got 0 to 2"):
        as_likelihood("bernoulli").check(torch.tensor([[0.0, 2.0]]))
    for low, high in ((0, 1), (-1, 0.5), (-1, 2)):
        x = torch.cat([-torch.ones(4096, 2), torch.tensor([[low, high]])])  # in the last part
        with pytest.raises(ValueError, match=rf"x must hold -1 and 1 alone .*got others, from -1 to {max(high, 0.5)}"):
            as_likelihood("bernoulli").check_data(x)
    with pytest.raises(ValueError, match="x must hold 3 levels at equal distances from -1 to 1"):
        DiscretizedLogistic(3).check(torch.tensor([[0.0, 0.5]]))
    for shape in ((8, 8), (2, 1, 8), (1, 1, 8, 8), (3,)):
        with pytest.raises(ValueError, match=r"must broadcast against that of x, \(1, 8, 6\); got"):
            LearnedVariance(shape).check(torch.zeros(2, 1, 8, 6))
    LearnedVariance((8, 1)).check(torch.zeros(2, 1, 8, 6))
