"""Toy models and data whose truth is known, for evaluation: Gaussians, a ring of eight modes, a linear latent model."""

import math

import torch

from genfast import ops
from genfast.common.indices import as_index


def normal(n, d, seed=0, stream=0):
    """(n, d) float32; sample i is a function of (seed, i, stream)."""
    return ops.normal(ops.make_key(seed, as_index("n", n)), (d,), ops.Purpose.PRIOR, stream)


class Gaussian:
    """N(0, scale^2 I); samples by index."""

    def __init__(self, d, scale=1.0):
        self.d, self.scale = d, scale

    def sample(self, n, seed=0):
        return self.scale * normal(n, self.d, seed)

    def log_prob(self, x):
        return torch.distributions.Normal(0.0, self.scale).log_prob(x.double()).sum(1)


class Mixed(Gaussian):
    """A share of Gaussians of another scale, with its exact density."""

    def __init__(self, d, share, scale):
        super().__init__(d)
        self.share, self.other = share, Gaussian(d, scale)

    def sample(self, n, seed=0):
        chosen = ops.uniform(ops.make_key(seed, as_index("n", n)), (1,), ops.Purpose.TIME) < self.share
        return torch.where(chosen, self.other.scale, 1.0) * super().sample(n, seed)

    def log_prob(self, x):
        parts = math.log(1 - self.share) + super().log_prob(x), math.log(self.share) + self.other.log_prob(x)
        return torch.logaddexp(*parts)


class Ring:
    """Eight narrow modes on a circle. modes: how many are drawn.  junk: share of samples on a circle far outside."""

    def __init__(self, modes=8, junk=0.0):
        self.modes, self.junk = modes, junk

    def sample(self, n, seed=0):
        key = ops.make_key(seed, as_index("n", n))
        u = ops.uniform(key, (2,), ops.Purpose.TIME)
        angle = (u[:, 0] * self.modes).floor() * math.pi / 4
        radius = torch.where(u[:, 1] < self.junk, 4.0, 1.0)
        angle = torch.where(u[:, 1] < self.junk, 2 * math.pi * u[:, 0], angle)
        return radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1) + 0.1 * normal(n, 2, seed)


class Copier:
    """Hands out training points, a little moved."""

    def __init__(self, train, noise=1e-3):
        self.train, self.noise = train, noise

    def sample(self, n, seed=0):
        index = as_index("n", n)
        return self.train[index % len(self.train)] + self.noise * normal(index, self.train.shape[1], seed)


class CountOnly:
    """A model of another library: takes a number of samples, nothing else."""

    def __init__(self, d):
        self.d, self.calls = d, []

    def sample(self, n, seed=0):
        out = torch.randn(int(n), self.d, generator=torch.Generator().manual_seed(seed))
        self.calls.append(n)
        return out


class LinearVAE:
    """x = W z + s e with z and e normal; q(z | x) is the posterior, its variance `wide` times too large. With wide = 1
    every weight is p(x)."""

    def __init__(self, d=6, latent=2, s=0.5, wide=1.0):
        self.W, self.s, self.latent, self.wide = normal(d, latent, seed=9).double(), s, latent, wide
        self.cov_x = self.W @ self.W.T + s**2 * torch.eye(d, dtype=torch.float64)
        self.cov = torch.linalg.inv(torch.eye(latent, dtype=torch.float64) + self.W.T @ self.W / s**2)

    def sample(self, n, seed=0):
        z, e = normal(n, self.latent, seed, 1).double(), normal(n, len(self.W), seed, 2).double()
        return (z @ self.W.T + self.s * e).float()

    def exact(self, x):
        zero = torch.zeros(len(self.W), dtype=torch.float64)
        return torch.distributions.MultivariateNormal(zero, self.cov_x).log_prob(x.double())

    def log_weights(self, x, key, samples, first=0):
        mean = x.double() @ self.W @ self.cov / self.s**2
        q = torch.distributions.MultivariateNormal(mean, self.wide * self.cov)
        root = torch.linalg.cholesky(self.wide * self.cov)
        noise = [ops.normal(key, (self.latent,), ops.Purpose.PRIOR, first + j).double() for j in range(samples)]
        z = mean + torch.stack(noise) @ root.T
        likelihood = torch.distributions.Normal(z @ self.W.T, self.s).log_prob(x.double()).sum(-1)
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
        return likelihood + prior - q.log_prob(z)
