"""The Gaussian, with a full, a diagonal or a low-rank covariance."""

import torch

from ..checkpoint import register
from ..common.checks import as_tensor, require_number
from .estimate import check_capacity, maximum_likelihood, require_regular
from .model import ClosedForm
from .spectral import Spectral, as_spectral


@register
class Gaussian(ClosedForm):
    """N(m, C) by maximum likelihood.

    covariance  "full", "diagonal", or "low_rank": U diag(v) U^T + r (I - U U^T) with `rank` columns in U, of which rank
                0 is the isotropic Gaussian
    shrinkage   lambda in [0, 1]: C becomes (1 - lambda) C + lambda (tr C / D) I (Ledoit & Wolf 2004)
    ridge       added to every variance, in the square of the data's unit
    shape       of one sample; by default that of the data
    """

    def __init__(self, covariance="full", *, rank=None, shrinkage=0.0, ridge=0.0, shape=None):
        super().__init__(1, covariance, rank, shape)
        self.shrinkage = require_number("shrinkage", shrinkage, least=0, most=1)
        self.ridge = require_number("ridge", ridge, least=0)

    @classmethod
    def from_moments(cls, mean, covariance):
        """The Gaussian of mean (*shape) and covariance: a matrix (D, D), or variances (*shape) or (D,)."""
        mean, covariance = (
            as_tensor(name, value, torch.float64) for name, value in (("mean", mean), ("covariance", covariance))
        )
        size = mean.numel()
        if mean.ndim == 0 or tuple(covariance.shape) not in (mean.shape, (size,), (size, size)):
            expected = f"({size}, {size}), ({size},) or that of mean"
            raise ValueError(f"covariance must have shape {expected}; got {tuple(covariance.shape)}")
        if not bool(mean.isfinite().all()):
            raise ValueError(f"mean must be finite; got {mean[~mean.isfinite()][0]}")
        full = tuple(covariance.shape) == (size, size) and mean.shape != covariance.shape
        covariance = covariance[None] if full else covariance.reshape(1, size)
        model = cls("full" if full else "diagonal")
        one = torch.ones(1, dtype=torch.float64, device=mean.device)
        return model._set(tuple(mean.shape), one, mean.view(1, -1), as_spectral(covariance, 1, size))

    @property
    def mean(self):
        """m: (*shape)."""
        return self.means[0].view(self.shape)

    @property
    def covariance_matrix(self):
        """C: (D, D)."""
        return self._spectral().matrices()[0]

    def fit(self, data):
        """The model with the parameters that maximize the likelihood of the data, then regularized; itself.

        data: Data, a tensor or an array (N, *), in float64 as it is. Warns with the numbers below D + 3 samples of a
        full covariance. Raises ValueError where the covariance is singular, as it must be from D samples, in any units:
        the correlation matrix is judged.
        """
        x, shape = self._data(data)
        if self.covariance == "full":
            check_capacity(*x.shape, components=1, regularized=self.ridge > 0 or self.shrinkage > 0)
        return self._fit(x, shape)

    def _fit(self, x, shape):
        origin = x[0]  # from which a constant coordinate is 0, with a variance of 0 and no rounding error
        mean, fitted = maximum_likelihood(x - origin, self.covariance, self.rank)
        covariance = self._regularized(fitted, x.shape[1])
        require_regular(covariance, self._remedy, fitted)
        return self._set(shape, torch.ones_like(mean[:, 0]), mean + origin, covariance)

    _remedy = "give ridge= or shrinkage="

    def _regularized(self, covariance: Spectral, size: int) -> Spectral:
        total = covariance.variances.sum()
        if covariance.residual is not None:
            total = total + (size - self.rank) * covariance.residual.sum()
        target = self.shrinkage * total / size + self.ridge
        return covariance.map(lambda v: (1 - self.shrinkage) * v + target)

    def config(self) -> dict:
        """The constructor's arguments, for a checkpoint."""
        return {
            "covariance": self.covariance,
            "rank": self.rank,
            "shrinkage": self.shrinkage,
            "ridge": self.ridge,
            "shape": None if self.shape is None else list(self.shape),
        }
