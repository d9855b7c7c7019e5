"""Probabilistic principal component analysis, also of data with missing values."""

import warnings

import torch
from torch import Tensor

from ..checkpoint import register
from ..common.checks import require_integer, require_number
from ..common.precision import concrete
from .estimate import require_regular, upright
from .gaussian import Gaussian
from .missing import em_step, log_likelihoods
from .model import as_samples
from .spectral import Spectral


@register
class PPCA(Gaussian):
    """x = W z + m + sigma e with z ~ N(0, I_q), e ~ N(0, I): a Gaussian with C = W W^T + sigma^2 I.

    Maximum likelihood in closed form: sigma^2 is the mean of the D - q smallest eigenvalues of the covariance, W = U (L
    - sigma^2 I)^(1/2) of the others (Tipping & Bishop 1999, equations 7 and 8, with R = I). With missing values, given
    as NaN, by expectation-maximization, for as long as it gains `tolerance` nats a sample, or `max_iterations`.

    q      dimension of z, below D
    shape  of one sample; by default that of the data
    After a fit by EM `trace` holds the mean log-likelihood of the observed numbers, nats a sample, at each iteration,
    and `converged` says whether the tolerance was reached. A fit in closed form leaves () and True; without a fit they
    are () and None: a file keeps only the parameters.
    """

    def __init__(self, q, *, tolerance=1e-7, max_iterations=2000, shape=None):
        super().__init__("low_rank", rank=require_integer("q", q, 1), shape=shape)
        self.tolerance = require_number("tolerance", tolerance, least=0)
        self.max_iterations = require_integer("max_iterations", max_iterations, 1)
        self.trace, self.converged = (), None

    @classmethod
    def from_moments(cls, mean, covariance):
        """Raises TypeError: a PPCA is fitted; Gaussian.from_moments takes any covariance, W W^T + sigma^2 I too."""
        raise TypeError("PPCA has no from_moments, it is fitted to data; use Gaussian.from_moments(mean, covariance)")

    _rank_name, _remedy = "q", "take a smaller q"

    def fit(self, data):
        """The model with the parameters that maximize the likelihood of the data; itself.

        data: Data, a tensor or an array (N, *), in float64 as it is, NaN where a number is missing: at random, given
        what is seen. Raises ValueError if the rest of the covariance is singular or a number is missing everywhere.
        """
        x, shape = self._data(data, missing=True)
        self.trace, self.converged = (), True
        seen = ~x.isnan()
        if bool(seen.all()):
            return self._fit(x, shape)
        never = (~seen.any(0)).nonzero().flatten().tolist()
        if never:
            raise ValueError(f"data: the numbers {never[:5]} of a sample are missing in all {len(x)} samples")
        return self._fit_by_em(x, seen, shape)

    def _fit_by_em(self, x: Tensor, seen: Tensor, shape: tuple[int, ...]):
        """From the closed form with means in place of what is missing."""
        self._fit(torch.where(seen, x, x.nanmean(0)), shape)
        W, mean, variance = self.loadings, self.means[0], self.noise_variance
        x, seen = torch.where(seen, x, 0), seen.double()
        trace, self.converged = [], False
        for _ in range(self.max_iterations):
            log_likelihood, *parameters = em_step(x, seen, W, mean, variance)
            trace.append(log_likelihood)
            if len(trace) > 1 and trace[-1] - trace[-2] < self.tolerance:
                self.converged = True
                break
            W, mean, variance = parameters
        self.trace = tuple(trace)
        if not self.converged:
            warnings.warn(f"EM has not converged in max_iterations={self.max_iterations}", stacklevel=3)
        U, singular, _ = torch.linalg.svd(W, full_matrices=False)
        covariance = Spectral((singular**2 + variance)[None], upright(U)[None], variance.view(1))
        require_regular(covariance, self._remedy)
        return self._set(shape, self.weights, mean[None], covariance)

    def log_prob(self, x) -> Tensor:
        """log p(x) in nats: (N,) float64, of a sample with NaN the density of the numbers that are there, 0 of none.
        x: (N, *shape), a tensor or an array. Differentiable."""
        x = self._checked(x, missing=True)
        whole = ~x.isnan().flatten(1).any(1)
        if not concrete(x) or bool(whole.all()):
            return super().log_prob(x)
        answer = torch.empty(len(x), dtype=torch.float64, device=x.device)
        if bool(whole.any()):
            answer[whole] = super().log_prob(x[whole])
        rows = torch.arange(len(x), device=x.device)[~whole]
        for piece in rows.split(max(1, 2**22 // (self.means.numel() + self.rank**2))):
            part = x[piece].flatten(1)
            seen = ~part.isnan()
            values = torch.where(seen, part, 0.0), seen.double()
            answer[piece] = log_likelihoods(*values, self.loadings, self.means[0], self.noise_variance)
        return answer

    @property
    def noise_variance(self) -> Tensor:
        """sigma^2: ()."""
        return self.residual[0]

    @property
    def loadings(self) -> Tensor:
        """W: (D, q)."""
        return self.basis[0] * (self.variances[0] - self.residual[0]).clamp(min=0).sqrt()

    def encode(self, x) -> tuple[Tensor, Tensor]:
        """The posterior of z, N(M^-1 W^T (x - m), sigma^2 M^-1) with M = W^T W + sigma^2 I: its means, (N, q), and its
        covariance, (q, q), diagonal and the same for all. x: (N, *shape)."""
        along = (self._checked(x).flatten(1) - self.means[0]) @ self.basis[0]
        M = self.variances[0]  # of the axes, on which W^T W + sigma^2 I is diagonal
        return along * (M - self.noise_variance).clamp(min=0).sqrt() / M, torch.diag(self.noise_variance / M)

    def decode(self, z) -> Tensor:
        """E[x | z] = W z + m: (N, *shape) float64. z: (N, q)."""
        self._require_fitted()
        z = as_samples("z", z)
        if z.shape[1:] != (self.rank,):
            raise ValueError(f"z must have shape (N, {self.rank}); got {tuple(z.shape)}")
        return (z.to(self.means.device) @ self.loadings.T + self.means[0]).view(-1, *self.shape)

    def config(self) -> dict:
        """The constructor's arguments, for a checkpoint."""
        return {
            "q": self.rank,
            "tolerance": self.tolerance,
            "max_iterations": self.max_iterations,
            "shape": None if self.shape is None else list(self.shape),
        }
