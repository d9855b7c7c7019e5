"""Evaluation: samples of any model against real data, in one call, with intervals and baselines."""

from .compare import Comparison, Ranking, compare
from .diagnose import Diagnosis, Finding, diagnose
from .evaluate import evaluate
from .measure import METRICS
from .records import Baseline, ClassRecord, Record
from .report import Report

__all__ = [
    "METRICS",
    "Baseline",
    "ClassRecord",
    "Comparison",
    "Diagnosis",
    "Finding",
    "Ranking",
    "Record",
    "Report",
    "compare",
    "diagnose",
    "evaluate",
]  # fmt: skip
