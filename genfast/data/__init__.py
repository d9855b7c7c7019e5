"""Data, their order, and pictures of them."""

from ..common.units import Units
from .builtin import digits
from .dataset import Data, arrays, as_data, permutation
from .emoji import emoji
from .files import load
from .folder import folder
from .images import grid, save_png, strip
from .table import table
from .toy import toy

__all__ = [
    "Data", "Units", "arrays", "as_data", "digits", "emoji", "folder", "grid", "load", "permutation", "save_png",
    "strip", "table", "toy",
]  # fmt: skip
