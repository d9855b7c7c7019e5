"""Covariances by their eigenvalues: full, diagonal and low-rank ones share every formula of the Gaussian."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..common.checks import as_tensor

UNLIKE = 1e-4  # of the largest unit: with all above it LAPACK finds eigenvalues to half of the digits
SWEEPS = 40  # of rotations, at most


class Spectral(NamedTuple):
    """K covariances C_k = U_k diag(v_k) U_k^T + r_k (I - U_k U_k^T), float64.

    variances  v: (K, q), not negative; every formula below also takes (B, K, q), what noise makes of them
    basis      U: (K, D, q), orthonormal columns; None where the axes are the coordinates, q = D
    residual   r: (K,), the variance of all directions outside the basis; None where q = D

    A function g of such a matrix is g(v) and g(r), so inverse, square root and product with a vector cost O(D q), the
    saving of Woodbury's identity, which they are.
    """

    variances: Tensor
    basis: Tensor | None = None
    residual: Tensor | None = None

    def split(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """U^T x: (B, K, q), and x - U U^T x: (B, K, D), or None where the basis is complete. x: (B, K, D)."""
        if self.basis is None:
            return x, None
        along = torch.einsum("bkd,kdq->bkq", x, self.basis)
        return along, None if self.residual is None else x - torch.einsum("bkq,kdq->bkd", along, self.basis)

    def join(self, along: Tensor, rest: Tensor | None) -> Tensor:
        """The vector (B, K, D) that `split` takes apart."""
        if self.basis is None:
            return along
        x = torch.einsum("bkq,kdq->bkd", along, self.basis)
        return x if rest is None else x + rest

    def times(self, along: Tensor, rest: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """C x of a split x."""
        return along * self.variances, None if rest is None else rest * self.residual.unsqueeze(-1)

    def solve(self, along: Tensor, rest: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """C^-1 x of a split x."""
        return along / self.variances, None if rest is None else rest / self.residual.unsqueeze(-1)

    def map(self, function) -> "Spectral":
        """The function of the matrix: of its eigenvalues, with the same axes."""
        return self._replace(
            variances=function(self.variances),
            residual=None if self.residual is None else function(self.residual),
        )

    def noised(self, alpha: Tensor, sigma: Tensor) -> "Spectral":
        """alpha^2 C + sigma^2 I, for B pairs: variances (B, K, q), residual (B, K). alpha, sigma: (B,)."""
        alpha, sigma = alpha.view(-1, 1, 1), sigma.view(-1, 1, 1)
        noised = self._replace(variances=alpha**2 * self.variances + sigma**2)
        if self.residual is None:
            return noised
        return noised._replace(residual=(alpha**2).squeeze(-1) * self.residual + (sigma**2).squeeze(-1))

    def smallest(self) -> Tensor:
        """The smallest eigenvalue of all: ()."""
        smallest = self.variances.min() if self.variances.numel() else self.residual.min()
        return smallest if self.residual is None else torch.minimum(smallest, self.residual.min())

    def component(self, k: int) -> "Spectral":
        """Covariance k alone, as K = 1."""
        return Spectral(**{name: None if part is None else part[k : k + 1] for name, part in self._asdict().items()})

    @classmethod
    def of_all(cls, components: "list[Spectral]") -> "Spectral":
        """Components of the same kind, each K = 1, as one."""
        columns = {name: [getattr(one, name) for one in components] for name in cls._fields}
        return cls(**{name: None if parts[0] is None else torch.cat(parts) for name, parts in columns.items()})

    def matrices(self) -> Tensor:
        """(K, D, D)."""
        if self.basis is None:
            return torch.diag_embed(self.variances)
        matrices = (self.basis * self.variances.unsqueeze(1)) @ self.basis.mT
        if self.residual is None:
            return matrices
        unit = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
        return matrices + self.residual.view(-1, 1, 1) * (unit - self.basis @ self.basis.mT)


def as_spectral(covariances, count: int, size: int) -> Spectral:
    """`count` covariances of `size` numbers: a Spectral as it is, or (K,), (K, D) or (K, D, D), isotropic, diagonal or
    full ones. Raises ValueError where a shape is another, a number not finite, a matrix not symmetric, or an eigenvalue
    negative."""
    if isinstance(covariances, Spectral):
        got = tuple(None if part is None else tuple(part.shape) for part in covariances)
        q = got[0][-1]
        complete = ((count, size), (count, size, size), None)
        if got not in (complete, (complete[0], None, None), ((count, q), (count, size, q), (count,))):
            raise ValueError(f"covariances must be {count} of {size} numbers each; got parts of the shapes {got}")
        spectral = covariances
    else:
        covariances = as_tensor("covariances", covariances, torch.float64).detach().clone()
        shapes = ((count,), (count, size), (count, size, size))
        if tuple(covariances.shape) not in shapes:
            expected = ", ".join(map(str, shapes))
            raise ValueError(f"covariances must have one of the shapes {expected}; got {tuple(covariances.shape)}")
        if not bool(covariances.isfinite().all()):
            raise ValueError(f"covariances must be finite; got {covariances[~covariances.isfinite()][0]}")
        if covariances.ndim < 3:
            spectral = Spectral(covariances.view(count, -1).expand(count, size))
        else:
            # A product such as U diag(v) U^T is symmetric to a rounding error of its largest entry.
            apart = (covariances - covariances.mT).abs().amax((1, 2))
            if not (apart <= 1e-12 * covariances.abs().amax((1, 2))).all():
                raise ValueError(f"covariances must be symmetric; entries differ by up to {apart.max():.2g}")
            pairs = [eigen((matrix + matrix.T) / 2) for matrix in covariances]
            spectral = Spectral(*(torch.stack(parts) for parts in zip(*pairs)))
    values = [part for part in (spectral.variances, spectral.residual) if part is not None and part.numel()]
    if not all(bool(((value >= 0) & value.isfinite()).all()) for value in values):
        smallest = spectral.smallest()
        raise ValueError(f"covariances must be positive semi-definite; the smallest variance is {smallest:g}")
    return spectral


def eigen(matrix: Tensor, least: float = 0.0) -> tuple[Tensor, Tensor]:
    """The eigenvalues (D,) of a symmetric matrix, ascending, zero but for rounding as 0, and the axes, (D, D).

    LAPACK is off by a rounding error of the largest eigenvalue, which is all of another where the units of coordinates
    differ by 1e8. So where they differ by 1e4 the correlation matrix decides what is singular, and if it is not,
    rotations find eigenvalues and axes to a relative error that does not depend on the units.
    least: what is below it need not be exact.
    """
    units = matrix.diagonal().clamp(min=0).sqrt()
    smallest = float(units.min())
    if smallest > 0 and max(smallest, least**0.5) < UNLIKE * float(units.max()):
        correlation = matrix / units / units.unsqueeze(1)
        variances = torch.linalg.eigvalsh(correlation)
        if bool(variances[0] > rounding(variances)):
            return _rotated(torch.linalg.cholesky(correlation).T * units)
    variances, basis = torch.linalg.eigh(matrix)
    # An eigenvalue of a singular matrix comes out as a rounding error of either sign.
    return torch.where(variances.abs() <= rounding(variances), 0.0, variances), basis


def rounding(variances: Tensor) -> Tensor:
    """What an eigenvalue may be off by, if these are all: ()."""
    return 1e-14 * variances.numel() * variances.abs().max()


def _rotated(root: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and axes of root^T root, root: (D, D), by Jacobi's rotations of its columns until they
    are orthogonal, D / 2 disjoint pairs at a time.

    Scaling its columns does not change the relative error (Demmel & Veselic 1992, SIAM J. Matrix Anal. 13(4)).
    """
    size, even = len(root), len(root) + len(root) % 2
    order = root.square().sum(0).argsort(descending=True)
    columns = torch.nn.functional.pad(root[:, order], (0, even - size))  # one of zeros makes an odd number even
    axes = torch.eye(even, dtype=root.dtype, device=root.device)
    for _ in range(SWEEPS):
        largest, players = 0.0, torch.arange(even, device=root.device)
        for _ in range(even - 1):  # a round in which all play, the first stays and the others move on
            p, q = players[: even // 2], players[even // 2 :].flip(0)
            x, y = columns[:, p], columns[:, q]
            xx, yy, xy = x.square().sum(0), y.square().sum(0), (x * y).sum(0)
            cosine = xy.abs() / (xx * yy).sqrt()
            small = ~(cosine > torch.finfo(root.dtype).eps * size)  # or NaN, beside the zeros
            zeta = (yy - xx) / (2 * xy)
            tangent = torch.where(zeta < 0, -1.0, 1.0) / (zeta.abs() + torch.hypot(zeta, torch.ones_like(zeta)))
            tangent = torch.where(small, 0.0, tangent)
            c = (1 + tangent**2).rsqrt()
            for matrix in (columns, axes):
                x, y = matrix[:, p], matrix[:, q]
                matrix[:, p], matrix[:, q] = c * x - c * tangent * y, c * tangent * x + c * y
            largest = max(largest, float(tangent.abs().max()))
            players = torch.cat([players[:1], players[1:].roll(1)])
        if largest == 0:
            break
    variances = columns.square().sum(0)
    kept = variances.argsort()[even - size :]  # the column of zeros is the smallest
    basis = torch.empty_like(root)
    basis[order] = axes[:size, kept]
    return variances[kept], basis
