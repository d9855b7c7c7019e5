"""Shared by the tests of metrics: sets of samples, functions of a seed, and how often intervals cover."""

import torch


def randn(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthogonal(d, seed=0):
    return torch.linalg.qr(randn(d, d, seed)).Q


def covers(estimates, truth):
    """How many of the intervals hold the truth."""
    return sum(estimate.low <= truth <= estimate.high for estimate in estimates)
