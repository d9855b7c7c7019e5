"""The activations that ops have fused in, by name, and their numbers."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from ..common.checks import require_choice

ACTIVATIONS = {  # in the order of csrc/math/activation.h
    "none": lambda u: u,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda u: F.gelu(u, approximate="tanh"),
}
NAMES = tuple(ACTIVATIONS)


def number_of(act: str) -> int:
    """That of csrc/math/activation.h. Raises ValueError for a name that is not one of `ACTIVATIONS`."""
    return NAMES.index(require_choice("act", act, NAMES))


def numbered(number: int) -> Callable[[Tensor], Tensor]:
    """The activation of that number, in plain torch."""
    return ACTIVATIONS[NAMES[number]]
