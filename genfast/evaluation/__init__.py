"""Evaluation: samples of any model against real data, in one call, with intervals and floors."""

from .evaluate import evaluate
from .measure import METRICS
from .records import ClassRecord, Floor, Record
from .report import Report

__all__ = ["METRICS", "ClassRecord", "Floor", "Record", "Report", "evaluate"]
