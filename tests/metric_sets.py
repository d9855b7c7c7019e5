"""Shared by the tests of metrics: sets of samples, functions of a seed, and how often intervals cover."""

import torch
from helpers import normal


def orthogonal(d, seed=0):
    return torch.linalg.qr(normal(d, d, seed=seed)).Q


def covers(estimates, truth):
    """How many of the intervals hold the truth."""
    return sum(estimate.low <= truth <= estimate.high for estimate in estimates)
