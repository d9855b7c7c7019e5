"""The exact denoiser of a mixture of Gaussians."""

import math

import torch

from ..common.checks import as_tensor, require_integer
from ..common.precision import readable
from ..diffusion.process.denoisers import Denoiser, Unscaled, batch_times
from .spectral import as_spectral


class GaussianMixtureDenoiser(Denoiser):
    """The exact denoiser of data drawn from sum_k w_k N(m_k, C_k), for which p_t = sum_k w_k N(alpha m_k, alpha^2 C_k
    + sigma^2 I).

    weights: (K,) positive, normalized here; means: (K, *); covariances: (K,), (K, D) or (K, D, D), isotropic, diagonal
    or full, with D the size of one sample, or a `spectral.Spectral`, low-rank ones too; a zero covariance is a point
    mass. All arithmetic is float64; answers have the dtype of x_t.
    """

    def __init__(self, weights, means, covariances, schedule):
        super().__init__(self._denoise, schedule, Unscaled())
        self.weights, means = (
            as_tensor(name, value, torch.float64).detach().clone()
            for name, value in (("weights", weights), ("means", means))
        )
        possible = (self.weights > 0) & self.weights.isfinite()
        if self.weights.ndim != 1 or len(self.weights) == 0 or not bool(possible.all()):
            raise ValueError(f"weights must be (K,), positive and finite; got {self.weights}")
        count = len(self.weights)
        if means.ndim < 2 or len(means) != count or not bool(means.isfinite().all()):
            raise ValueError(f"means must be finite and of shape ({count}, *); got shape {tuple(means.shape)}")
        self.weights = self.weights / self.weights.sum()
        self.shape, self.means = means.shape[1:], means.flatten(1)
        self.covariances = as_spectral(covariances, count, self.means.shape[1])

    def _components(self, x_t, t):
        """Per component: log(w_k N(x_t)): (B, K); deviation from the mean, split by the axes; C_k under noise;
        alpha: (B,)."""
        times = batch_times(x_t, t)
        if x_t.shape[1:] != self.shape:
            raise ValueError(f"x_t must have shape (B, {', '.join(map(str, self.shape))}); got {tuple(x_t.shape)}")
        alpha, sigma = self.schedule.alpha(times), self.schedule.sigma(times)
        noised = self.covariances.noised(alpha, sigma)
        if len(x_t) and readable(smallest := noised.smallest()) and not bool(smallest > 0):
            raise ValueError("t must be positive: a mixture with a singular covariance has no density at t = 0")
        along, rest = noised.split(x_t.to(torch.float64).flatten(1).unsqueeze(1) - alpha.view(-1, 1, 1) * self.means)
        log_density = -(along**2 / noised.variances + torch.log(2 * math.pi * noised.variances)).sum(-1) / 2
        if rest is not None:
            others = self.means.shape[1] - along.shape[-1]
            r = noised.residual
            log_density = log_density - ((rest**2).sum(-1) / r + others * torch.log(2 * math.pi * r)) / 2
        return log_density + torch.log(self.weights), (along, rest), noised, alpha

    def _mean(self, posterior, parts):
        """sum_k P(k | x_t) (vector k, given split by the axes of C_k): (B, D). posterior: (B, K)."""
        return (posterior.unsqueeze(-1) * self.covariances.join(*parts)).sum(1)

    def _denoise(self, x_t, t):
        log_joint, deviation, noised, alpha = self._components(x_t, t)
        posterior = torch.softmax(log_joint, 1)
        correction = alpha.view(-1, 1) * self._mean(posterior, self.covariances.times(*noised.solve(*deviation)))
        return (posterior @ self.means + correction).view(x_t.shape).to(x_t.dtype)

    def score(self, x_t, t):
        """grad log p_t(x_t): (B, *), directly and not through D."""
        log_joint, deviation, noised, _ = self._components(x_t, t)
        return -self._mean(torch.softmax(log_joint, 1), noised.solve(*deviation)).view(x_t.shape).to(x_t.dtype)

    def log_joint(self, x_t, t=0.0):
        """log(w_k N(x_t; alpha m_k, alpha^2 C_k + sigma^2 I)) in nats: (B, K), float64."""
        return self._components(x_t, t)[0]

    def log_prob(self, x_t, t=0.0):
        """log p_t(x_t) in nats: (B,), float64."""
        return torch.logsumexp(self.log_joint(x_t, t), 1)

    def sample(self, n, generator=None):
        """n draws of x_0: (n, *), float64."""
        n = require_integer("n", n, 0)
        if not isinstance(generator, torch.Generator | None):
            raise TypeError(f"generator must be a torch.Generator or None; got {type(generator).__name__}")
        component = (
            torch.multinomial(self.weights, n, replacement=True, generator=generator)
            if n
            else torch.zeros(0, device="cpu").long()
        )
        z = torch.randn(n, 1, self.means.shape[1], dtype=torch.float64, generator=generator, device="cpu")
        root = self.covariances.map(torch.sqrt)
        x = torch.empty_like(self.means[component])
        for k in range(len(self.weights)):
            chosen, root_k = component == k, root.component(k)
            x[chosen] = root_k.join(*root_k.times(*root_k.split(z[chosen]))).squeeze(1)
        return (self.means[component] + x).view(n, *self.shape)
