"""Mean and covariance of a stream of features, and the Frechet distance of two of them."""

import hashlib
import warnings
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ..common.checks import require_integer
from ..common.files import CorruptCheckpoint, as_path, write_file
from . import checks
from .frechet import Gaussian, distance


class Moments:
    """Mean (D,) and covariance (D, D) of the samples seen so far, float64.

    dim: D.  fingerprint: of the features, as an extractor states it; moments of different ones do not mix.
    n: how many samples have been seen. Batches and shards are combined exactly but for rounding (Chan, Golub & LeVeque
    1983): with delta = mean_b - mean_a and n = n_a + n_b,

        mean = mean_a + delta n_b / n,      scatter = scatter_a + scatter_b + delta delta^T n_a n_b / n.
    """

    def __init__(self, dim: int, fingerprint: str | None = None):
        dim = require_integer("dim", dim, 1)
        if fingerprint is not None and not isinstance(fingerprint, str):
            raise TypeError(f"fingerprint must be a string or None; got {type(fingerprint).__name__}")
        self.fingerprint, self.n = fingerprint, 0
        self.mean = torch.zeros(dim, dtype=torch.float64, device="cpu")
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64, device="cpu")

    @property
    def dim(self) -> int:
        """D."""
        return len(self.mean)

    @property
    def covariance(self) -> Tensor:
        """(D, D), unbiased. Raises ValueError before there are two samples."""
        if self.n < 2:
            raise ValueError(f"covariance must be of at least 2 samples; got {self.n}")
        return self._scatter / (self.n - 1)

    def update(self, x: Tensor | np.ndarray) -> "Moments":
        """Take in x: (B, D), finite and floating-point; answers with itself."""
        x = checks.matrix(x, "x", torch.float64, rows=1).cpu()
        if x.shape[1] != self.dim:
            raise ValueError(f"x must have {self.dim} features per sample; got {x.shape[1]}")
        mean = x.mean(0)
        centered = x - mean
        return self._add(len(x), mean, centered.T @ centered)

    def merge(self, other: "Moments") -> "Moments":
        """Take in what another one has seen; answers with itself. Raises ValueError where the features differ."""
        _require_comparable(self=self, other=other)
        return self._add(other.n, other.mean, other._scatter)

    def _add(self, n: int, mean: Tensor, scatter: Tensor) -> "Moments":
        total = self.n + n
        if n:
            delta = mean - self.mean
            self.mean = self.mean + delta * (n / total)
            self._scatter = self._scatter + scatter + torch.outer(delta, delta) * (self.n * n / total)
            self.n = total
        return self

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, or fail and leave the old one: n, mean and scatter, and their sha256."""
        path = as_path("path", path)
        state = {"n": torch.tensor(self.n, device="cpu"), "mean": self.mean, "scatter": self._scatter}
        data = {"sha256": _digest(state, self.fingerprint)}
        if self.fingerprint is not None:
            data["fingerprint"] = self.fingerprint
        write_file(path, safetensors.torch.save(state, metadata=data))

    @classmethod
    def load(cls, path: str | Path) -> "Moments":
        """What `save` wrote. Raises FileNotFoundError, or CorruptCheckpoint if the file is not as it was written."""
        path = as_path("path", path)
        try:
            with torch.device("cpu"), safetensors.safe_open(path, "pt") as file:
                data, state = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except safetensors.SafetensorError as error:
            raise CorruptCheckpoint(f"{path} is damaged or holds no moments: {error}") from error
        if state.keys() != {"n", "mean", "scatter"} or data.get("sha256") != _digest(state, data.get("fingerprint")):
            raise CorruptCheckpoint(f"{path} is damaged or holds no moments")
        moments = cls(len(state["mean"]), data.get("fingerprint"))
        moments.n, moments.mean, moments._scatter = int(state["n"]), state["mean"], state["scatter"]
        return moments


def frechet_of_moments(a: Moments, b: Moments) -> float:
    """`frechet_distance` from mean and covariance alone, by their symmetric eigenvalues.

    Of equal moments exactly 0. Singular covariances cost half of the digits, about 1e-8 of their trace; what falls
    below 0 by that is clipped, with a RuntimeWarning that says by how much.
    Raises TypeError for anything but Moments; ValueError where their features differ or one has seen fewer than two.
    """
    _require_comparable(a=a, b=b)
    covariances = a.covariance, b.covariance
    if torch.equal(a.mean, b.mean) and torch.equal(*covariances):
        return 0.0
    value = distance(*(Gaussian(moments.mean, _root(cov)) for moments, cov in zip((a, b), covariances)))
    if value < 0:
        warnings.warn(f"a Frechet distance of {value:.2g}, below 0 by rounding, was clipped", RuntimeWarning, 2)
    return max(value, 0.0)


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return values.clamp(min=0).sqrt()[:, None] * vectors.T


def _require_comparable(**pair: Moments) -> None:
    for name, moments in pair.items():
        if not isinstance(moments, Moments):
            raise TypeError(f"{name} must be Moments; got {type(moments).__name__}")
    a, b = pair.values()
    if a.fingerprint != b.fingerprint:
        raise ValueError(f"moments of different features: fingerprints {a.fingerprint!r} and {b.fingerprint!r}")
    if a.dim != b.dim:
        raise ValueError(f"moments of different features: {a.dim} and {b.dim} of them")


def _digest(state: dict[str, Tensor], fingerprint: str | None) -> str:
    digest = hashlib.sha256(repr(fingerprint).encode())
    for name in sorted(state):
        digest.update(state[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
