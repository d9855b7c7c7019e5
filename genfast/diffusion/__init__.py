"""Diffusion models: from the top down, a model, its likelihood, and what they are built on, each a package.

model, queue, planned, times, scale (of the data), likelihood, elbo
sampling/     the one loop along a plan; queue, adaptive steps, inversion, Brownian noise
guidance/     classifier-free, by a gradient (classifiers), by a measurement (inverse problems)
solvers/      a solver is a few rows of algebra, which make a plan
process/      schedules, denoisers, time grids, plans
"""

from . import guidance, process, sampling, solvers
from .elbo import elbo
from .guidance import Guidance
from .likelihood import BitsPerDim, bits_per_dim, log_likelihood
from .model import Diffusion
from .process.plans import Plan
from .queue import DiffusionQueue
from .times import TIMES, LogNormal, Uniform

__all__ = [
    "TIMES", "BitsPerDim", "Diffusion", "DiffusionQueue", "Guidance", "LogNormal", "Plan", "Uniform", "bits_per_dim",
    "elbo", "guidance", "log_likelihood", "process", "sampling", "solvers",
]  # fmt: skip
