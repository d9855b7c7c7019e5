"""Probabilistic PCA: the known answers on real digits, scikit-learn, its latents, and missing values."""

import math

import numpy as np
import pytest
import torch
from helpers import normal
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

import genfast as gf
from genfast.gaussian.missing import em_step

DIGITS = load_digits().data / 16  # gray levels 0 to 1


def planted(count=1500, size=8, q=2, noise=0.3):
    """Data of a q-dimensional PPCA."""
    return normal(count, q) @ normal(q, size, seed=1) + noise * normal(count, size, seed=2) + 3


def with_holes(x, share=0.15, seed=0):
    holes = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < share
    return torch.where(holes, math.nan, x)


# Closed form ----------------------------------------------------------------------------------------------------------


def test_maximum_of_the_likelihood_on_digits():
    """Nats a sample of 64 gray levels in [0, 1], q = 10."""
    assert gf.PPCA(10).fit(DIGITS).log_prob(DIGITS).mean().item() == pytest.approx(17.45194702187782, abs=1e-11)


@pytest.mark.parametrize("q", [1, 10, 40])
def test_maximum_of_the_likelihood_by_the_formula(q):
    eigenvalues = np.linalg.eigvalsh(np.cov(DIGITS.T, bias=True))[::-1]
    size, noise = 64, eigenvalues[q:].mean()
    expected = -(
        size * math.log(2 * math.pi) + np.log(eigenvalues[:q]).sum() + (size - q) * math.log(noise) + size
    ) / 2  # fmt: skip
    model = gf.PPCA(q).fit(DIGITS)
    assert model.log_prob(DIGITS).mean().item() == pytest.approx(expected, abs=1e-10)
    assert model.noise_variance.item() == pytest.approx(noise, rel=1e-12)


@pytest.mark.parametrize("q", [1, 10, 40])
def test_scikit_learn_scores_the_same_once_it_divides_by_n(q):
    peer, count = PCA(q, svd_solver="full").fit(DIGITS), len(DIGITS)
    covariance = peer.get_covariance() * (count - 1) / count  # it divides by N - 1
    deviation = DIGITS - DIGITS.mean(0)
    square = (deviation @ np.linalg.inv(covariance) * deviation).sum(1)
    expected = -(square + np.linalg.slogdet(2 * math.pi * covariance)[1]) / 2
    model = gf.PPCA(q).fit(DIGITS)
    assert np.abs(model.log_prob(DIGITS).numpy() - expected).max() < 1e-9
    # And its own score, of our parameters divided by N - 1.
    rescaled = gf.PPCA(q)._set(
        (64,), model.weights, model.means, model._spectral().map(lambda v: v * count / (count - 1))
    )
    assert rescaled.log_prob(DIGITS).mean().item() == pytest.approx(peer.score(DIGITS), abs=1e-9)


def test_wide_data_without_a_square_matrix():
    """Fewer samples than dimensions take another path, and come to the same."""
    x = planted(30, 50, 3)
    model, dense = gf.PPCA(3).fit(x), np.linalg.eigh(np.cov(x.numpy().T, bias=True))
    assert np.allclose(model.variances[0].numpy(), dense.eigenvalues[:-4:-1])
    assert model.noise_variance.item() == pytest.approx(dense.eigenvalues[:-3].mean())
    overlap = np.linalg.svd(model.basis[0].numpy().T @ dense.eigenvectors[:, -3:], compute_uv=False)
    assert np.allclose(overlap, 1)


def test_a_planted_subspace_is_found():
    x, model = planted(20_000), gf.PPCA(2).fit(planted(20_000))
    planted_axes = torch.linalg.qr(normal(2, 8, seed=1).T).Q
    assert torch.linalg.svdvals(planted_axes.T @ model.basis[0]).min() > 1 - 1e-4
    assert model.noise_variance.item() == pytest.approx(0.3**2, rel=0.02)
    assert torch.allclose(model.mean, x.mean(0))


def test_images_of_64_by_64():
    x = planted(60, 4096, 5).view(60, 1, 64, 64)
    model = gf.PPCA(5).fit(x)
    assert model.parameters_count == 4096 + 4096 * 5 - 10 + 1
    assert model.log_prob(x).isfinite().all() and model.sample(3).shape == (3, 1, 64, 64)
    x_t = normal(3, 1, 64, 64)
    exact = model.denoiser("vp_linear")
    assert torch.allclose(exact(x_t, 1e-5), x_t, atol=0.05)  # hardly any noise: x_0 is x_t
    alpha, sigma = exact.schedule.alpha(0.5), exact.schedule.sigma(0.5)
    assert torch.allclose(alpha * exact(x_t, 0.5) - x_t, sigma**2 * exact.score(x_t, 0.5), rtol=0, atol=1e-10)


# Latents --------------------------------------------------------------------------------------------------------------


def test_covariance_is_that_of_the_loadings():
    model = gf.PPCA(3).fit(planted())
    expected = model.loadings @ model.loadings.T + model.noise_variance * torch.eye(8).double()
    assert torch.allclose(model.covariance_matrix, expected, rtol=0, atol=1e-12)


def test_posterior_of_the_latents():
    """Against the conditional of the joint Gaussian of (z, x), and the evidence it leaves: ELBO = log p(x)."""
    x = planted()[:20]
    model = gf.PPCA(3).fit(planted())
    W, noise, mean = model.loadings, model.noise_variance, model.mean
    gain = W.T @ torch.linalg.inv(model.covariance_matrix)
    z, covariance = model.encode(x)
    assert torch.allclose(z, (x - mean) @ gain.T, atol=1e-10)
    assert torch.allclose(covariance, torch.eye(3).double() - gain @ W, atol=1e-10)

    reconstruction = -(
        ((x - model.decode(z)) ** 2).sum(1) + (W @ covariance * W).sum() + noise * 8 * torch.log(2 * math.pi * noise)
    ) / (2 * noise)
    divergence = (covariance.trace() + (z**2).sum(1) - 3 - torch.logdet(covariance)) / 2
    assert torch.allclose(reconstruction - divergence, model.log_prob(x), rtol=0, atol=1e-9)


def test_decode_keeps_the_shape():
    model = gf.PPCA(2).fit(planted().view(-1, 2, 4))
    assert model.decode(torch.zeros(5, 2)).shape == (5, 2, 4)
    assert torch.allclose(model.decode(torch.zeros(1, 2))[0], model.mean)


# Missing values -------------------------------------------------------------------------------------------------------


def test_em_raises_the_likelihood_of_what_was_seen():
    model = gf.PPCA(2).fit(with_holes(planted()))
    assert model.converged and len(model.trace) > 3
    assert min(np.diff(model.trace)) > -1e-12


def test_likelihood_of_what_was_seen_is_that_of_its_marginal():
    x = with_holes(planted(40))
    W, mean, noise = normal(8, 2, seed=5), normal(8, seed=6), torch.tensor(0.2).double()
    seen = ~x.isnan()
    found, *_ = em_step(torch.where(seen, x, 0), seen.double(), W, mean, noise)
    covariance = W @ W.T + noise * torch.eye(8).double()
    expected = sum(
        torch.distributions.MultivariateNormal(mean[s], covariance[s][:, s]).log_prob(row[s]) for row, s in zip(x, seen)
    )
    assert found == pytest.approx(float(expected) / 40, abs=1e-10)


def test_em_on_complete_data_ends_at_the_closed_form():
    """From a random start, with nothing missing: the maximum of the formula."""
    x = planted()
    best = gf.PPCA(2).fit(x).log_prob(x).mean().item()
    parameters, trace = (normal(8, 2, seed=7), x.mean(0), torch.ones(()).double()), []
    for _ in range(300):
        found, *parameters = em_step(x, torch.ones_like(x), *parameters)
        trace.append(found)
    assert min(np.diff(trace)) > -1e-12 and trace[-1] == pytest.approx(best, abs=1e-9)


def test_fit_with_holes_is_close_to_the_complete_one():
    x = planted()
    complete, holed = gf.PPCA(2).fit(x), gf.PPCA(2).fit(with_holes(x))
    loss = (complete.log_prob(x) - holed.log_prob(x)).mean()
    filled = torch.where(with_holes(x).isnan(), with_holes(x).nanmean(0), x)
    naive = (complete.log_prob(x) - gf.PPCA(2).fit(filled).log_prob(x)).mean()
    assert 0 < loss < 0.01 and loss < naive / 50
    assert holed.noise_variance.item() == pytest.approx(complete.noise_variance.item(), rel=0.05)


def test_missing_digits():
    x = torch.from_numpy(DIGITS)
    holed = gf.PPCA(5, tolerance=1e-5).fit(with_holes(x, 0.1))
    assert (gf.PPCA(5).fit(x).log_prob(x) - holed.log_prob(x)).mean() < 0.05


def test_unfinished_em_says_so():
    with pytest.warns(UserWarning, match="EM has not converged in max_iterations=2") as caught:
        model = gf.PPCA(2, max_iterations=2).fit(with_holes(planted()))
    assert not model.converged and caught[0].filename == __file__
    assert gf.PPCA(2).fit(planted()).trace == ()


def test_bad_input_is_refused():
    x = planted()
    with pytest.raises(ValueError, match=r"the numbers \[3\] of a sample are missing in all 1500 samples"):
        gf.PPCA(2).fit(torch.where(torch.arange(8) == 3, math.nan, x))
    model = gf.PPCA(2).fit(x)
    with pytest.raises(ValueError, match=r"z must have shape \(N, 2\); got \(4, 3\)"):
        model.decode(torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"x must be finite; rows \[0\] are not"):
        model.encode(with_holes(x[:1], 1.0))
    for call in (lambda m: m.encode(x), lambda m: m.decode(x)):
        with pytest.raises(RuntimeError, match="PPCA has no parameters yet"):
            call(gf.PPCA(2))


def test_density_of_what_is_there():
    """That of the block of the dense matrix; of nothing, 0; whole rows as ever, and a gradient."""
    model, x = gf.PPCA(2).fit(planted()), with_holes(planted(60, 8), 0.4).view(60, 8)
    x[5] = math.nan
    x[7] = 1.0
    mean, covariance = model.mean, model.covariance_matrix
    expected = torch.zeros(60).double()
    for i, seen in enumerate(~x.isnan()):
        if seen.any():
            block = torch.distributions.MultivariateNormal(mean[seen], covariance[seen][:, seen])
            expected[i] = block.log_prob(x[i, seen])
    asked = x.clone().requires_grad_()
    found = model.log_prob(asked)
    assert torch.allclose(found, expected, rtol=0, atol=1e-9) and found[5] == 0
    assert torch.allclose(model.log_prob(x.float().numpy()), expected, atol=1e-4)
    assert torch.equal(found[7:8], model.log_prob(x[7:8]))
    (gradient,) = torch.autograd.grad(found.sum(), asked)
    assert torch.allclose(gradient[7:8], model.score(x[7:8])) and not gradient[5].any()


def test_the_fit_ends_at_the_density_of_what_was_there():
    x = with_holes(planted(400))
    model = gf.PPCA(2).fit(x)
    assert model.log_prob(x).mean().item() == pytest.approx(model.trace[-1], abs=1e-9)


def test_missing_values_are_refused_where_they_cannot_be():
    x = with_holes(planted(50))
    model = gf.PPCA(2).fit(planted())
    for call in (model.score, model.encode, gf.Gaussian().fit(planted()).log_prob, gf.GaussianMixture(2).fit):
        with pytest.raises(ValueError, match=r"(x|data) must be finite; rows \[0, .* are not"):
            call(x)
    with pytest.raises(ValueError, match="x must be finite or NaN where missing"):
        model.log_prob(torch.full((2, 8), math.inf))
