"""Guidance: towards a condition, or towards a measurement."""

from .classifier_free import Guidance
from .gradient import ClassifierGuidance
from .inverse import DPS, MMPS, PiGDM

__all__ = ["DPS", "MMPS", "ClassifierGuidance", "Guidance", "PiGDM"]
