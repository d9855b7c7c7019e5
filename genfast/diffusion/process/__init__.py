"""The process: schedules of noise, what a network predicts of it, time grids and plans."""

from . import denoisers, grids, plans, schedules, tabulated

__all__ = ["denoisers", "grids", "plans", "schedules", "tabulated"]
