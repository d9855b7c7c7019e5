"""Probabilistic PCA on the numbers that were seen: likelihood and expectation-maximization."""

import math

import torch
from torch import Tensor


def log_likelihoods(x: Tensor, seen: Tensor, W: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """log p of what was seen of each sample, nats: (N,), the density of its own block, 0 of nothing. Arguments as in
    `em_step`."""
    return _posterior(x, seen, W, mean, variance)[0]


def em_step(x: Tensor, seen: Tensor, W: Tensor, mean: Tensor, variance: Tensor) -> tuple[float, Tensor, Tensor, Tensor]:
    """The mean log-likelihood of what was seen, nats a sample, and the next W, mean and variance, which raise it.

    x: (N, D), 0 where nothing was seen; seen: (N, D) of 0 and 1; W: (D, q); mean: (D,); variance: ().

    With the rows W_n and the deviations d_n of what was seen of sample n, and M_n = W_n^T W_n + sigma^2 I, z_n given
    them is N(M_n^-1 W_n^T d_n, sigma^2 M_n^-1). Then each dimension is a regression of its seen numbers on (z, 1)
    (Tipping & Bishop 1999, appendix B, with the sums over what was seen).
    """
    size, q = W.shape
    log_likelihood, z, covariance = _posterior(x, seen, W, mean, variance)
    with_one = torch.cat([z, torch.ones_like(z[:, :1])], 1)
    second = with_one.unsqueeze(2) * with_one.unsqueeze(1)
    second[:, :q, :q] += covariance
    normal = (seen.T @ second.flatten(1)).view(size, q + 1, q + 1)
    theta = torch.linalg.solve(normal, x.T @ with_one)
    W, mean = theta[:, :q], theta[:, q]
    left = (seen * (x - with_one @ theta.T)).square().sum() + ((seen.T @ covariance.flatten(1)) * _outer(W)).sum()
    return float(log_likelihood.mean()), W, mean, left / seen.sum()


def _posterior(x: Tensor, seen: Tensor, W: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log p of what was seen, (N,), and of z given that the mean, (N, q), and the covariance, (N, q, q)."""
    q = W.shape[1]
    deviation, counts = seen * (x - mean), seen.sum(1)
    M = (seen @ _outer(W)).view(len(x), q, q) + variance * torch.eye(q, dtype=W.dtype, device=W.device)
    root = torch.linalg.cholesky(M)
    projected = deviation @ W
    z = torch.cholesky_solve(projected.unsqueeze(2), root).squeeze(2)
    log_det = 2 * root.diagonal(dim1=1, dim2=2).log().sum(1) + (counts - q) * variance.log()
    square = ((deviation**2).sum(1) - (projected * z).sum(1)) / variance
    return -(counts * math.log(2 * math.pi) + log_det + square) / 2, z, variance * torch.cholesky_inverse(root)


def _outer(W: Tensor) -> Tensor:
    """w_d w_d^T of each row: (D, q q)."""
    return (W.unsqueeze(2) * W.unsqueeze(1)).flatten(1)
