"""Metrics: pure functions of samples and real data, which answer with an Estimate: a number, how sure it is, and what
the reader must know.

Order of arguments: (samples, real). METRICS lists what `evaluate` can ask for; a new metric is one file and one line.
"""

from .estimate import Estimate
from .frechet import frechet, frechet_distance
from .importance import ImportanceWeights
from .inception_score import inception_score
from .kernel import kernel_distance
from .likelihood import likelihood
from .memorization import Memorization, memorization
from .moments import Moments, frechet_of_moments
from .precision_recall import precision_recall
from .registry import METRICS, Metric
from .two_sample import two_sample_test

__all__ = [
    "METRICS", "Estimate", "ImportanceWeights", "Memorization", "Metric", "Moments", "frechet", "frechet_distance",
    "frechet_of_moments", "inception_score", "kernel_distance", "likelihood", "memorization", "precision_recall",
    "two_sample_test",
]  # fmt: skip
