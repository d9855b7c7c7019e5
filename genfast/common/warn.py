"""Warnings where a user sees what they are about."""

import sys
import warnings


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """A warning at the line that called genfast: by default Python says one only once a line."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("genfast."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
