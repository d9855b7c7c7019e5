"""VAE where the answer is known: a linear one is probabilistic PCA (Tipping and Bishop 1999); and on real digits."""

import math

import pytest
import torch
from torch import nn

import genfast as gf
from genfast import ops
from genfast.studies.linear_vae import LinearEncoder


def ppca(x, latent):
    """Maximum likelihood: (nats a row, mean, covariance, principal directions). x: (N, d) float64."""
    mean, d = x.mean(0), x.shape[1]
    values, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    values, vectors = values.flip(0), vectors.flip(1)
    noise = values[latent:].mean()
    nats = -0.5 * (d * math.log(2 * math.pi) + values[:latent].log().sum() + (d - latent) * noise.log() + d)
    top = vectors[:, :latent]
    covariance = top @ torch.diag(values[:latent] - noise) @ top.T + noise * torch.eye(d).double()
    return nats, mean, covariance, top


def linear_vae(x, latent, iterations):
    """A linear VAE at the maximum of its ELBO, which here is a formula: all is quadratic in z."""
    torch.manual_seed(0)
    features, mean = x.shape[1], x.mean(0)
    vae = gf.VAE(
        LinearEncoder(features, latent), nn.Linear(latent, features), latent=latent, likelihood="learned_variance"
    ).double()
    covariance = (x - mean).T @ (x - mean) / len(x)
    weights = [vae.encoder.mu.weight, vae.encoder.logvar, vae.decoder.weight, vae.likelihood.free]

    def elbo():
        V, l, W, _ = weights
        log_noise, rest = vae.likelihood.log_variance(x), torch.eye(features).double() - W @ V
        squared = (rest @ covariance * rest).sum() + (W.square() * l.exp()).sum()
        kl = 0.5 * ((V @ covariance * V).sum() + (l.exp() - 1 - l).sum())
        return -0.5 * (features * (math.log(2 * math.pi) + log_noise) + squared / log_noise.exp()) - kl

    optimizer = torch.optim.LBFGS(
        weights, max_iter=iterations, history_size=50, tolerance_grad=1e-9, tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure():
        optimizer.zero_grad()
        loss = -elbo()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        vae.decoder.bias.copy_(mean)
        vae.encoder.mu.bias.copy_(-vae.encoder.mu.weight @ mean)
    return vae, elbo().item()


@pytest.fixture(scope="module")
def linear():
    x = gf.data.digits().x.flatten(1).double()
    return x, *linear_vae(x, 10, 1500)


def test_linear_vae_is_ppca(linear):
    x, vae, found = linear
    nats, mean, covariance, top = ppca(x, 10)
    direct = torch.distributions.MultivariateNormal(mean, covariance).log_prob(x).mean()
    assert abs(nats - direct) < 1e-9  # the formula
    assert -1e-9 < nats - found < 1e-4
    cosines = torch.linalg.svdvals(top.T @ torch.linalg.qr(vae.decoder.weight.detach())[0])
    assert math.degrees(math.acos(min(1.0, float(cosines.min())))) < 1
    elbo = torch.stack([vae.elbo(x, ops.make_key(seed, len(x))) for seed in range(200)]).mean(1)
    assert abs(elbo.mean() - found) < 4 * elbo.std() / 200**0.5  # what the model itself says, by draws
    assert abs(elbo.mean() - nats) < 1e-3 * abs(nats)


def test_iwae_reaches_the_likelihood_of_a_linear_vae(linear):
    """Its exact one, N(b, W W^T + sigma^2 I); from an encoder that is off, or q is the posterior and any k is exact."""
    x, vae, _ = linear
    x = x[:200]
    W = vae.decoder.weight.detach()
    noise = vae.likelihood.log_variance(x).detach().exp()
    covariance = W @ W.T + noise * torch.eye(64).double()
    exact = torch.distributions.MultivariateNormal(vae.decoder.bias.detach(), covariance).log_prob(x)
    torch.testing.assert_close(vae.log_likelihood(x, k=8).nats, exact, rtol=1e-3, atol=1e-3)
    logvar, bias = vae.encoder.logvar.detach().clone(), vae.encoder.mu.bias.detach().clone()
    with torch.no_grad():
        vae.encoder.mu.bias += 0.4 * (0.5 * logvar).exp()
        vae.encoder.logvar += 0.4
    try:
        bounds = [vae.log_likelihood(x, k=k) for k in (1, 8, 4096)]
    finally:
        with torch.no_grad():
            vae.encoder.logvar.copy_(logvar), vae.encoder.mu.bias.copy_(bias)
    means = [float(b.nats.mean()) for b in bounds]
    assert means == sorted(means) and means[-1] - means[0] > 0.3
    z = (bounds[-1].nats - exact) / bounds[-1].se
    assert (z.abs() < 4.5).all()
    together = bounds[-1].se.square().sum().sqrt() / len(z)
    assert abs(bounds[-1].nats.mean() - exact.mean()) < 3 * together


@pytest.mark.slow
def test_digits_beat_the_linear_models():
    """Held-out nats of dequantized digits: IWAE at k = 512 above PPCA of as many latents and the diagonal Gaussian."""

    def dequantized(data):
        key = ops.make_key(0, len(data))
        return data.x + (ops.uniform(key, data.x.shape[1:], ops.Purpose.DEQUANTIZE) - 0.5) / 8  # of 17 levels

    train, test = (dequantized(gf.data.digits(split)) for split in ("train", "test"))
    torch.manual_seed(0)
    width, latent = 128, 10
    encoder = [nn.Flatten(), nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()]
    decoder = [nn.Linear(latent, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 64)]
    vae = gf.VAE(
        nn.Sequential(*encoder, nn.Linear(width, 2 * latent)), nn.Sequential(*decoder, nn.Unflatten(1, (1, 8, 8))),
        latent=latent, likelihood=gf.vae.likelihoods.LearnedVariance((1, 8, 8)),
    )  # fmt: skip
    gf.fit(vae, train, steps=1000, lr=3e-3, progress=False)
    found = vae.log_likelihood(test, k=512)
    nats = found.nats.mean()
    assert found.se.mean() < 0.3 and vae.active_units(train).count >= 5

    train, test = train.flatten(1).double(), test.flatten(1).double()
    _, mean, covariance, _ = ppca(train, latent)
    linear = torch.distributions.MultivariateNormal(mean, covariance).log_prob(test).mean()
    diagonal = torch.distributions.Normal(mean, train.std(0, correction=0)).log_prob(test).sum(1).mean()
    assert nats > max(linear, diagonal) + 10, (nats, linear, diagonal)
