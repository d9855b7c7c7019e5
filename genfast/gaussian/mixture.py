"""The mixture of Gaussians, by expectation-maximization."""

import warnings

import torch
from torch import Tensor

from .. import ops
from ..checkpoint import register
from ..common.checks import require_integer, require_integers, require_number
from ..common.keys import MAX_SEED
from .denoiser import GaussianMixtureDenoiser
from .estimate import check_capacity, maximum_likelihood
from .model import ClosedForm
from .spectral import Spectral

QUARTILE = 0.6745  # of N(0, 1): the median distance from its mean


@register
class GaussianMixture(ClosedForm):
    """sum_k w_k N(m_k, C_k), by expectation-maximization (Dempster, Laird & Rubin 1977).

    components      their number K
    covariance      of each: "full", "diagonal" or "low_rank" with `rank`, a mixture of PPCA (Tipping & Bishop 1999b);
                    of rank 0 it is isotropic
    min_variance    the smallest variance of a component, as a share of that of the data: "diagonal", of each coordinate
                    by itself (of the mean one where the data are constant); else of the mean over the coordinates, so
                    that they should be of similar scale. So a component cannot shrink to a point, and as the bounded
                    eigenvalues maximize the likelihood of all matrices that obey it, EM stays monotone
    tolerance       EM ends when an iteration gains less than this, nats a sample; or after `max_iterations`
    starts          the best of so many fits, each from centers of its own (k-means++, Arthur & Vassilvitskii 2007) that
                    are a function of (seed, number of the start); "diagonal" in units of each coordinate's
                    standard deviation, so that scaling a coordinate by c changes log p by -log c and no more
    shape           of one sample; by default that of the data

    After a fit `trace` holds the mean log-likelihood at each iteration, nats a sample, and `converged` whether the
    tolerance was reached. Without one, () and None: a file keeps only the parameters.
    """

    def __init__(
        self, components, covariance="full", *, rank=None, min_variance=1e-6, tolerance=1e-6, max_iterations=1000,
        starts=1, seed=0, shape=None,
    ):  # fmt: skip
        super().__init__(components, covariance, rank, shape)
        self.min_variance = require_number("min_variance", min_variance, above=0, most=1)
        self.tolerance = require_number("tolerance", tolerance, least=0)
        self.max_iterations, self.starts = require_integers(1, max_iterations=max_iterations, starts=starts)
        self.seed = require_integer("seed", seed, 0, MAX_SEED)
        self.trace, self.converged = (), None

    @classmethod
    def from_parameters(cls, weights, means, covariances):
        """The mixture of weights (K,), means (K, *) and covariances (K, D, D) or (K, D), or (K,) for isotropic ones."""
        exact = GaussianMixtureDenoiser(weights, means, covariances, "flow")  # checks them
        model = cls(len(exact.weights), "diagonal" if exact.covariances.basis is None else "full")
        return model._set(tuple(exact.shape), exact.weights, exact.means, exact.covariances)

    def fit(self, data, *, start: "GaussianMixture | None" = None):
        """The model after EM on the data; itself.

        data: Data, a tensor or an array (N, *), in float64 as it is.  start: a fitted mixture of as many
        components to begin from, instead of k-means++.
        Warns with the numbers where full covariances have too many parameters for them, where the smallest variance is
        above some of the data's own, or above the spread of most samples about their component's, as others far from
        them make it, and if EM has not converged.
        """
        x, shape = self._data(data)
        variance = (x - x[0]).var(0, correction=0)  # of what is constant, 0 without rounding
        if not variance.mean() > 0:
            raise ValueError(f"data: all {len(x)} samples are alike")
        if self.covariance == "diagonal":
            variance = torch.where(variance > 0, variance, variance.mean())
        else:
            variance = variance.mean()
        floor = self.min_variance * variance
        if self.covariance == "full":
            check_capacity(*x.shape, components=self.components, regularized=True)
        little = self._below_floor(x - x[0], floor)
        if start is None:
            scaled = (x - x[0]) / variance.sqrt()  # float64 far from the origin would lose it in products
            centers = (_centers(scaled, self.components, self.seed, number) for number in range(self.starts))
            firsts = (self._maximize(x, _nearest(scaled, center), floor) for center in centers)
        else:
            firsts = [self._parameters_of(start, shape)]
        fits = (self._em(x, first, floor) for first in firsts)
        parameters, self.trace, self.converged = max(fits, key=lambda fit: fit[1][-1])
        if not self.converged:
            gain = self.trace[-1] - self.trace[-2]
            limit = f"max_iterations={self.max_iterations}"
            warnings.warn(f"EM has not converged in {limit}: the last gained {gain:.2g} nats a sample", stacklevel=2)
        self._set(shape, *parameters)
        if not little:
            self._check_components(x, floor)
        return self

    def responsibilities(self, x) -> Tensor:
        """P(component | x): (N, K) float64. x: (N, *shape)."""
        return self._by_rows(x, lambda exact, rows: torch.softmax(exact.log_joint(rows), 1))

    def _below_floor(self, x, floor):
        """How many axes there are along which even the variance of all data is below the floor, so that the fit says
        little of them; warns of them."""
        if self.covariance == "diagonal":
            return 0
        spectral = maximum_likelihood(x, self.covariance, self.rank, least=float(floor))[1]
        parts = [part for part in (spectral.variances, spectral.residual) if part is not None]
        low = sum(int((part < floor).sum()) for part in parts)
        if low:
            warnings.warn(
                f"data: {low} of the {sum(part.numel() for part in parts)} eigenvalues of their covariance are below "
                f"min_variance={self.min_variance:g} times the mean variance, which is {floor:.2g}; the components are "
                "wider there: scale the coordinates alike, or take a smaller min_variance",
                stacklevel=3,
            )
        return low

    def _check_components(self, x, floor):
        """Warns if the floor is above the spread of most samples, each about those of its component: what is far from
        them made it so wide."""
        nearest = self.responsibilities(x.view(-1, *self.shape)).argmax(1)
        narrow = []  # of components: how many samples, the floor and the spread below it
        for k in nearest.unique().tolist():
            own = x[nearest == k]
            typical = _typical_variances(own)
            if self.covariance != "diagonal":
                typical = typical.median(0, keepdim=True).values  # of coordinates: the floor is one for all
            if bool((low := typical < floor).any()):
                first = int(low.nonzero()[0])
                narrow.append((len(own), float(floor.expand_as(low)[first]), float(typical[first])))
        if 2 * sum(count for count, *_ in narrow) > len(x):
            _, least, spread = max(narrow)
            warnings.warn(
                f"data: the smallest variance of a component, min_variance={self.min_variance:g} times theirs, is "
                f"{least:.2g}, above that of most samples about their component's, {spread:.2g}: others are far from "
                "them; take a smaller min_variance, or remove those",
                stacklevel=3,
            )

    def _em(self, x, parameters, floor):
        """(weights, means, covariances), trace, converged; the last number of the trace is that of the parameters."""
        trace = []
        while True:
            weights, means, covariances = parameters
            exact = GaussianMixtureDenoiser(weights, means, covariances, "flow")
            rows = max(1, 2**22 // means.numel())
            log_joint = torch.cat([exact.log_joint(piece) for piece in x.split(rows)])
            log_prob = torch.logsumexp(log_joint, 1)
            trace.append(float(log_prob.mean()))
            if len(trace) > 1 and trace[-1] - trace[-2] < self.tolerance:
                return parameters, tuple(trace), True
            if len(trace) > self.max_iterations:
                return parameters, tuple(trace), False
            parameters = self._maximize(x, (log_joint - log_prob.unsqueeze(1)).exp(), floor)

    def _maximize(self, x, responsibilities, floor):
        """The parameters of greatest likelihood given how much each component owns of each sample, (N, K)."""
        # A component that owns nothing keeps a weight that is positive, and of no effect.
        owned = responsibilities.clamp(min=torch.finfo(torch.float64).tiny)
        least = float(floor.min())
        fitted = [maximum_likelihood(x, self.covariance, self.rank, weight, least) for weight in owned.T]
        means = torch.cat([mean for mean, _ in fitted])
        covariances = Spectral.of_all([covariance for _, covariance in fitted])
        return owned.mean(0) / owned.mean(0).sum(), means, covariances.map(lambda v: v.clamp(min=floor))

    def _parameters_of(self, start, shape):
        if not isinstance(start, GaussianMixture):
            raise TypeError(f"start must be a GaussianMixture; got {type(start).__name__}")
        if not start.is_fitted or (start.components, start.shape) != (self.components, shape):
            raise ValueError(
                f"start must be fitted, with {self.components} components and samples of shape {shape}; got {start!r}"
            )
        return start.weights, start.means, start._spectral()

    def config(self) -> dict:
        """The constructor's arguments, for a checkpoint."""
        names = ("components", "covariance", "rank", "min_variance", "tolerance", "max_iterations", "starts", "seed")
        return {name: getattr(self, name) for name in names} | {
            "shape": None if self.shape is None else list(self.shape)
        }


def _centers(x: Tensor, components: int, seed: int, start: int) -> Tensor:
    """(K, D) of the samples: the first at random, each further one with a probability proportional to the squared
    distance to the nearest of those before it."""
    u = ops.uniform(ops.make_key(seed, [start]), (components,), ops.Purpose.TRAIN, dtype=torch.float64)[0].tolist()
    centers = [x[int(u[0] * len(x))]]
    nearest = torch.full_like(x[:, 0], torch.inf)
    for number in u[1:]:
        nearest = torch.minimum(nearest, (x - centers[-1]).square().sum(1))
        cumulative = nearest.cumsum(0)
        if not cumulative[-1] > 0:
            raise ValueError(f"components must be at most the {len(centers)} different samples; got {components}")
        chosen = torch.searchsorted(cumulative, number * cumulative[-1], right=True)
        centers.append(x[int(chosen.clamp(max=len(x) - 1))])
    return torch.stack(centers)


def _typical_variances(x: Tensor) -> Tensor:
    """Of each coordinate, (D,), the variance of a Gaussian with the median distance from the median that those samples
    have that are not at it; infinity if all are. A few far samples do not change it."""
    apart = (x - x.sort(0).values[len(x) // 2]).abs()
    counts = (apart > 0).sum(0)
    ordered = torch.where(apart > 0, apart, torch.inf).sort(0).values
    return (ordered.gather(0, (counts // 2).clamp(max=len(x) - 1).unsqueeze(0))[0] / QUARTILE).square()


def _nearest(x: Tensor, centers: Tensor) -> Tensor:
    """(N, K), 1 at the nearest center."""
    nearest = torch.cdist(x, centers).argmin(1)
    return torch.nn.functional.one_hot(nearest, len(centers)).double()
