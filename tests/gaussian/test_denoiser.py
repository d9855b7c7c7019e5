"""The exact denoisers of models in closed form: against integrals and dense matrices, in the sampler and the flow."""

import pytest
import torch
from helpers import normal

import genfast as gf
from genfast.diffusion import sampling, solvers
from genfast.diffusion.process.schedules import SCHEDULES


def data(count=300):
    """(count, 2, 2), correlated, standard deviations about 1."""
    return (normal(count, 4) @ normal(4, 4, seed=1) * 0.5 + 0.3).view(count, 2, 2)


MODELS = {
    "full": gf.Gaussian().fit(data()),
    "diagonal": gf.Gaussian("diagonal").fit(data()),
    "low rank": gf.PPCA(2).fit(data()),
    "isotropic": gf.Gaussian("low_rank", rank=0).fit(data()),
    "mixture": gf.GaussianMixture(3, tolerance=1e-3).fit(data()),
    "low-rank mixture": gf.GaussianMixture(3, "low_rank", rank=1, tolerance=1e-3).fit(data()),
}
every = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def dense_log_prob(model, schedule, t):
    """log p_t by dense matrices, differentiable."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    covariances = alpha**2 * model._spectral().matrices() + sigma**2 * torch.eye(4).double()
    components = torch.distributions.MultivariateNormal(alpha * model.means, covariances)
    return lambda x: torch.logsumexp(components.log_prob(x.flatten(1).unsqueeze(1)) + model.weights.log(), 1)


@every
@pytest.mark.parametrize("name", SCHEDULES)
def test_tweedie_by_dense_matrices(model, name):
    """D = (x_t + sigma^2 grad log p_t) / alpha, the gradient by autograd of dense Gaussians."""
    exact = model.denoiser(name)
    for t in (0.02, 0.5, 0.95):
        alpha, sigma = exact.schedule.alpha(t), exact.schedule.sigma(t)
        x_t = (alpha * data(20) + sigma * normal(20, 2, 2, seed=3)).requires_grad_()
        log_prob = dense_log_prob(model, exact.schedule, t)(x_t)
        (score,) = torch.autograd.grad(log_prob.sum(), x_t)
        x_t = x_t.detach()
        assert (exact.log_prob(x_t, t) - log_prob).abs().max() < 1e-9
        assert (exact.score(x_t, t) - score).abs().max() < 1e-10 * max(1, float(score.abs().max()))
        expected = (x_t + sigma**2 * score) / alpha
        # Tweedie subtracts numbers of the size of x_t / alpha.
        assert (exact(x_t, t) - expected).abs().max() < 1e-10 * max(1, float((x_t / alpha).abs().max()))


def test_posterior_mean_by_an_integral():
    """E[x_0 | x_t] on a grid of x_0 in the plane, of a mixture of lines with noise."""
    model = gf.GaussianMixture(2, "low_rank", rank=1, tolerance=1e-3).fit(normal(300, 2) @ normal(2, 2, seed=1))
    exact = model.denoiser("flow")
    line = torch.linspace(-9, 9, 901, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    x_t, alpha, sigma = torch.tensor([[0.4, -0.2]]).double(), exact.schedule.alpha(0.6), exact.schedule.sigma(0.6)
    weight = torch.softmax(model.log_prob(grid) - ((x_t - alpha * grid) ** 2).sum(1) / (2 * sigma**2), 0)
    assert (exact(x_t, 0.6) - weight @ grid).abs().max() < 1e-10


@pytest.mark.parametrize("name", ["low rank", "mixture"])
@pytest.mark.parametrize("schedule", ["vp_linear", "edm"])
def test_the_sampler_draws_from_the_model(name, schedule):
    model, count = MODELS[name], 4000
    plan = solvers.plan("heun", schedule, steps=40)
    x = sampling.sample(model.denoiser(schedule), (2, 2), plan, count, chunk=500, progress=False).double().flatten(1)
    mean = model.weights @ model.means
    apart = model.means - mean
    covariance = torch.einsum("k,kde->de", model.weights, model._spectral().matrices())
    covariance = covariance + torch.einsum("k,kd,ke->de", model.weights, apart, apart)
    assert ((x.mean(0) - mean) / (covariance.diag() / count).sqrt()).abs().max() < 4
    products = (x - mean).unsqueeze(2) * (x - mean).unsqueeze(1)
    assert ((products.mean(0) - covariance) / (products.var(0) / count).sqrt()).abs().max() < 4


@pytest.mark.parametrize("name", ["low rank", "mixture"])
def test_the_flow_finds_the_density(name):
    model = MODELS[name]
    exact = model.denoiser("vp_linear")
    x = model.sample(8, seed=2).double()
    nats, _ = gf.diffusion.log_likelihood(exact, x, prior=exact.log_prob, steps=60, chunk=8, progress=False)
    assert (nats - model.log_prob(x)).abs().max() < 1e-3 * 4


def test_a_denoiser_keeps_the_parameters_it_was_made_of():
    model = gf.Gaussian().fit(data())
    exact, x = model.denoiser("flow"), data(5)
    before = exact(x, 0.5)
    model.fit(data() * 3)
    assert torch.equal(exact(x, 0.5), before)


def test_samples_by_vmap():
    means = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    exact = gf.gaussian.GaussianMixtureDenoiser([0.3, 0.7], means, [1.0, 0.5], "edm")
    x, t = 2 * means.repeat(2, 1), torch.tensor([0.1, 0.3, 0.5, 0.7])
    assert torch.equal(torch.func.vmap(lambda x, t: exact(x[None], t)[0])(x, t), exact(x, t))
