"""Maximum likelihood of one Gaussian, and whether the data can bear it."""

import warnings

import torch
from torch import Tensor

from .spectral import Spectral, eigen, rounding


def maximum_likelihood(
    x: Tensor, covariance: str, rank: int | None = None, weight: Tensor | None = None, least: float = 0.0
) -> tuple[Tensor, Spectral]:
    """The mean, (1, D), and the covariance of x: (N, D), each sample counted weight: (N,) times.

    "full": the second moment S about the mean, divided by the sum of the weights, not by one less.  "diagonal": its
    diagonal.  "low_rank": the q largest eigenvalues of S and, in all other directions, the mean of the others, which
    is the maximum likelihood of W W^T + sigma^2 I (Tipping & Bishop 1999, section 3.2).
    least: what is below it need not be exact.
    """
    share = torch.full_like(x[:, 0], 1 / len(x)) if weight is None else weight / weight.sum()
    mean = share @ x
    scaled = (x - mean) * share.sqrt().unsqueeze(1)
    mean = mean.unsqueeze(0)
    if covariance == "diagonal":
        return mean, Spectral((scaled**2).sum(0, keepdim=True))
    size = x.shape[1]
    if rank is not None and len(x) < size:  # N directions hold it all; a D x D matrix is not formed
        _, singular, rows = torch.linalg.svd(scaled, full_matrices=False)
        variances, basis = singular**2, rows.T
        variances = torch.where(variances <= rounding(variances), 0.0, variances)
    else:
        variances, basis = eigen(scaled.T @ scaled, least)
        variances, basis = variances.flip(0).clamp(min=0), basis.flip(1)
    basis = upright(basis)
    if rank is None:
        return mean, Spectral(variances.unsqueeze(0), basis.unsqueeze(0))
    residual = variances[rank:].sum() / (size - rank)
    return mean, Spectral(variances[None, :rank], basis[None, :, :rank], residual.view(1))


def upright(basis: Tensor) -> Tensor:
    """The columns of (D, q) with the sign that makes the largest entry positive: LAPACK leaves it open."""
    largest = basis.abs().argmax(0, keepdim=True)
    return basis * basis.gather(0, largest).sign()


def require_regular(covariances: Spectral, what: str, fitted: Spectral | None = None) -> None:
    """Raises a ValueError, with the numbers and `what` to do, where a variance is zero.

    fitted: the covariances before they were regularized, with 0 for what is zero but for rounding; by default every
    eigenvalue may be so. Then it is zero to a rounding error of the largest. Variances of coordinates, which may differ
    in unit, are not compared with each other.
    """
    values = _values(covariances)
    zero = values <= 0
    if covariances.basis is not None:
        doubtful = torch.ones_like(zero) if fitted is None else _values(fitted) <= 0
        zero |= doubtful & (values <= rounding(values))
    none = int(zero.sum())
    if none:
        raise ValueError(
            f"data: the covariance is singular, {none} of its {len(values)} variances are zero, so that there is no "
            f"density; {what}"
        )


def _values(covariances: Spectral) -> Tensor:
    """All variances: (K (q + 1),) or (K q,)."""
    parts = [part for part in (covariances.variances, covariances.residual) if part is not None]
    return torch.cat([part.flatten() for part in parts])


def check_capacity(count: int, size: int, components: int, regularized: bool) -> None:
    """Warns if `count` samples of `size` numbers are too few for full covariances; raises if one must be singular.

    Below D + 3 samples, two numbers a parameter, the expected log-likelihood of new data is minus infinity: the inverse
    of a Wishart matrix has no mean (e.g. Anderson 2003, section 7.7).
    """
    if count >= components * (size + 3):
        return
    parameters = components * size * (size + 3) // 2
    what = "a full covariance" if components == 1 else f"{components} full covariances"
    numbers = (
        f"data: {count:,} samples of {size:,} numbers are {count * size:,} numbers, for {parameters:,} parameters of "
        f"{what} and mean"
    )
    remedy = "a diagonal or low-rank covariance, or PPCA, has fewer"
    if not regularized and count <= size:
        raise ValueError(f"{numbers}: it is singular; give shrinkage= or ridge=, or {remedy}")
    warnings.warn(f"{numbers}; expect it to fit these data and not others: {remedy}", stacklevel=3)
