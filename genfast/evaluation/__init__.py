"""Evaluation: samples of any model against real data, in one call, with intervals and floors."""

from .compare import Comparison, Ranking, compare
from .diagnose import Diagnosis, Finding, diagnose
from .evaluate import evaluate
from .measure import METRICS
from .records import ClassRecord, Floor, Record
from .report import Report

__all__ = [
    "METRICS", "ClassRecord", "Comparison", "Diagnosis", "Finding", "Floor", "Ranking", "Record", "Report", "compare",
    "diagnose", "evaluate",
]  # fmt: skip
