"""Sampling: one loop along a plan, and what is built on it."""

from ...common.indices import share
from .adaptive import sample_adaptively
from .brownian import aligned
from .inversion import invert
from .queue import SampleQueue
from .sample import State, sample

__all__ = ["SampleQueue", "State", "aligned", "invert", "sample", "sample_adaptively", "share"]
