"""The activations that ops have fused in, by name, and their numbers."""

import torch.nn.functional as F

from ..common.checks import require_choice

ACTIVATIONS = {  # in the order of csrc/math/activation.h
    "none": lambda u: u,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda u: F.gelu(u, approximate="tanh"),
}
NAMES = tuple(ACTIVATIONS)
NUMBERS = {name: number for number, name in enumerate(NAMES)}


def number_of(act: str) -> int:
    """That of csrc/math/activation.h. Raises ValueError for a name that is not one of `ACTIVATIONS`."""
    return NUMBERS[act if type(act) is str and act in NUMBERS else require_choice("act", act, NAMES)]
