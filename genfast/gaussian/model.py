"""What all models in closed form share: sum_k w_k N(m_k, C_k), its density, score, samples and denoiser."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from .. import ops
from ..common.checks import require_choice, require_floating, require_integer, require_shape
from ..common.indices import as_index, chunk_index, require_finite
from ..common.precision import concrete
from ..data.dataset import Data
from .denoiser import GaussianMixtureDenoiser
from .spectral import Spectral

COVARIANCES = ("full", "diagonal", "low_rank")
LARGEST = 1e150  # of the numbers of a sample: their squares, summed up, are below what float64 holds
BLOCK = 64  # samples are made in blocks of one size, because a product of matrices rounds by its size


class ClosedForm(nn.Module):
    """p(x) = sum_k w_k N(x; m_k, C_k) of x: (*shape), flattened to D numbers; one component for a Gaussian.

    All parameters are float64 buffers: weights (K,), means (K, D) and the C_k by their eigenvalues, see
    `spectral.Spectral`: variances (K, q), basis (K, D, q) and residual (K,). They lie on the device of the data.
    """

    classes = 0
    _rank_name = "rank"  # of the argument

    def __init__(self, components: int, covariance: str, rank: int | None, shape):
        super().__init__()
        self.components = require_integer("components", components, 1)
        covariance = require_choice("covariance", covariance, COVARIANCES)
        if (rank is None) != (covariance != "low_rank"):
            raise ValueError(f"rank goes with covariance='low_rank', which needs it; got {rank!r} with {covariance!r}")
        self.covariance = covariance
        self.rank = None if rank is None else require_integer("rank", rank, 0)
        self.shape = None
        if shape is not None:
            self._allocate(require_shape("shape", shape))

    # Parameters ------------------------------------------------------------------------------------------------------

    def _allocate(self, shape: tuple[int, ...]) -> None:
        """Buffers for samples of this shape, with means of NaN until the model is fitted or loaded."""
        count, size = self.components, math.prod(shape)
        if self.rank is not None and self.rank >= size:
            numbers = f"the numbers of a sample of shape {shape}"
            raise ValueError(f"{self._rank_name} must be below {size}, {numbers}; got {self.rank}")
        q = size if self.rank is None else self.rank
        empty = {"dtype": torch.float64}
        self.shape = shape
        self.register_buffer("weights", torch.full((count,), 1 / count, **empty))
        self.register_buffer("means", torch.full((count, size), math.nan, **empty))
        self.register_buffer("variances", torch.zeros(count, q, **empty))
        self.register_buffer("basis", None if self.covariance == "diagonal" else torch.zeros(count, size, q, **empty))
        self.register_buffer("residual", None if self.rank is None else torch.zeros(count, **empty))

    def _set(self, shape: tuple[int, ...], weights: Tensor, means: Tensor, covariances: Spectral):
        """These are the parameters from now on: contiguous, as they will be when loaded, for the same rounding.

        Raises FloatingPointError where one is not finite."""
        values = {"weights": weights, "means": means, **covariances._asdict()}
        for name, value in values.items():
            if value is not None and not bool(value.isfinite().all()):
                raise FloatingPointError(f"the {name} of the {type(self).__name__} are not finite")
        self.shape = shape
        for name, value in values.items():
            self.register_buffer(name, None if value is None else value.detach().contiguous())
        return self

    def _spectral(self) -> Spectral:
        return Spectral(self.variances, self.basis, self.residual)

    @property
    def is_fitted(self) -> bool:
        return self.shape is not None and not bool(self.means.isnan().any())

    @property
    def parameters_count(self) -> int:
        """Free parameters: of the means, the covariances (D (D + 1) / 2 for a full one) and the weights."""
        if self.shape is None:
            raise RuntimeError("the shape of a sample is not known yet: fit first, or pass shape=")
        size = math.prod(self.shape)
        return self.components * (size + covariance_parameters(self.covariance, size, self.rank)) + self.components - 1

    def _data(self, data, missing: bool = False) -> tuple[Tensor, tuple[int, ...]]:
        """x: (N, D) and the shape of a sample, which is that of the model if it has one already."""
        x = as_samples("data", data, missing).detach()
        shape = tuple(x.shape[1:])
        if self.shape not in (None, shape):
            raise ValueError(f"data must have shape (N, {', '.join(map(str, self.shape))}); got {tuple(x.shape)}")
        x = x.flatten(1)
        if self.rank is not None and self.rank >= min(x.shape[1], len(x) - 1):
            most, counts = min(x.shape[1], len(x) - 1), f"{len(x)} samples of {x.shape[1]} numbers"
            raise ValueError(f"{self._rank_name} must be below {most}, with {counts}; got {self.rank}")
        return x, shape

    # What the model knows --------------------------------------------------------------------------------------------

    def denoiser(self, schedule) -> GaussianMixtureDenoiser:
        """The exact D(x_t, t) = E[x_0 | x_t], for `sampling.sample`, `likelihood.log_likelihood` and all else that
        takes a Denoiser. schedule: a Schedule or its name."""
        self._require_fitted()
        means = self.means.view(-1, *self.shape)
        return GaussianMixtureDenoiser(self.weights, means, self._spectral(), schedule)

    def log_prob(self, x) -> Tensor:
        """log p(x) in nats: (N,) float64. x: (N, *shape), a tensor or an array, finite. Differentiable.

        Raises ValueError where a covariance given by hand is singular, which has samples and a denoiser but no density.
        """
        return self._by_rows(x, GaussianMixtureDenoiser.log_prob)

    def score(self, x) -> Tensor:
        """grad log p(x): (N, *shape) float64. x: as in `log_prob`."""
        return self._by_rows(x, lambda exact, rows: exact.score(rows, 0.0))

    def _by_rows(self, x, function) -> Tensor:
        """function(the model without noise, rows) over pieces of x that keep intermediate results small."""
        exact = self.denoiser("flow")  # at t = 0, where every schedule has x_t = x_0
        if not exact.covariances.smallest() > 0:
            raise ValueError("covariance: the model's is singular, a variance is zero, so that there is no density")
        rows = max(1, 2**22 // self.means.numel())
        return torch.cat([function(exact, piece) for piece in self._checked(x).split(rows)])

    def _checked(self, x, missing: bool = False) -> Tensor:
        """x: (N, *shape) float64 on the device of the parameters. missing: as in `as_samples`."""
        self._require_fitted()
        x = as_samples("x", x, missing).to(self.means.device)
        if x.shape[1:] != self.shape:
            raise ValueError(f"x must have shape (N, {', '.join(map(str, self.shape))}); got {tuple(x.shape)}")
        return x

    def _require_fitted(self) -> None:
        if not self.is_fitted:
            raise RuntimeError(f"the {type(self).__name__} has no parameters yet: call fit(data)")

    def sample(self, n, *, seed: int = 0) -> Tensor:
        """n draws, (n, *shape) float32: sample i is a function of (parameters, seed, i), m_k + C_k^(1/2) z_i with the
        symmetric root, which does not depend on the choice of eigenvectors.

        n: how many, or the sample indices themselves.  Raises FloatingPointError for one beyond float32.
        """
        self._require_fitted()
        index = as_index("n", n)
        block, order = torch.sort(index // BLOCK, stable=True)
        x = torch.empty(len(index), self.means.shape[1], dtype=torch.float32, device=self.means.device)
        blocks, counts = torch.unique_consecutive(block, return_counts=True)
        for number, members in zip(blocks.tolist(), order.split(counts.tolist())):
            drawn = self._block(ops.make_key(seed, chunk_index(number * BLOCK, BLOCK), self.means.device))
            x[members.to(x.device)] = drawn[(index[members] % BLOCK).to(x.device)]
        require_finite(x, index, " in float32")
        return x.view(len(index), *self.shape)

    def _block(self, key: Tensor) -> Tensor:
        z = ops.normal(key, self.means.shape[1:], ops.Purpose.LATENT, dtype=torch.float64)
        u = ops.uniform(key, (), ops.Purpose.LABEL, dtype=torch.float64)
        component = torch.searchsorted(self.weights.cumsum(0), u, right=True).clamp(max=self.components - 1)
        root, x = self._spectral().map(torch.sqrt), torch.empty_like(z)
        for k in component.unique().tolist():
            axes, chosen = root.component(k), component == k
            drawn = axes.join(*axes.times(*axes.split(z.unsqueeze(1)))).squeeze(1) + self.means[k]
            x[chosen] = drawn[chosen]
        return x.float()

    # Files -----------------------------------------------------------------------------------------------------------

    @classmethod
    def from_config(cls, config: dict):
        return cls(**config)

    def __repr__(self) -> str:
        kind = self.covariance if self.rank is None else f"{self.covariance}, rank={self.rank}"
        about = "not fitted" if not self.is_fitted else f"{self.parameters_count:,} parameters"
        return f"{type(self).__name__}(shape={self.shape}, components={self.components}, covariance={kind}; {about})"


def covariance_parameters(covariance: str, size: int, rank: int | None) -> int:
    """Free parameters of one covariance of `size` numbers. Low rank: a q-frame up to rotation, and a variance."""
    covariance, size = require_choice("covariance", covariance, COVARIANCES), require_integer("size", size, 1)
    rank = None if covariance != "low_rank" else require_integer("rank", rank, 0, size)
    if covariance == "full":
        return size * (size + 1) // 2
    return size if covariance == "diagonal" else size * rank - rank * (rank - 1) // 2 + 1


def as_samples(name: str, data, missing: bool = False) -> Tensor:
    """x: (N, *) float64 from a Data, a tensor, an array or a pair (x, label); an error names what is wrong.

    missing: whether NaN may stand for what is not known.
    """
    x = data.x if isinstance(data, Data) else data[0] if isinstance(data, tuple) and len(data) == 2 else data
    if not isinstance(x, Tensor | np.ndarray):
        raise TypeError(f"{name} must be Data, a tensor or an array; got {type(x).__name__}")
    x = require_floating(name, x)
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(f"{name} must have shape (N, *), at least one sample; got {tuple(x.shape)}")
    if not concrete(x):
        return x.double()
    bad = (x.isinf() if missing else ~x.isfinite()).flatten(1).any(1)
    if bool(bad.any()):
        rows = bad.nonzero().flatten().tolist()[:5]
        raise ValueError(f"{name} must be finite{' or NaN where missing' if missing else ''}; rows {rows} are not")
    x = x.double()
    if bool((x.abs() > LARGEST).any()):
        largest = x[x.abs() > LARGEST].abs().max()
        raise ValueError(f"{name} must hold numbers up to {LARGEST:g}, which can be squared; got {largest:.2g}")
    return x
