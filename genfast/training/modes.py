"""The modes of a model that is trained."""

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def training(model: object) -> Iterator[None]:
    """Inside it the model is in training mode, as it understands that; afterwards each part is in its own again."""
    modes = [(module, module.training) for module in (model.modules() if isinstance(model, nn.Module) else ())]
    train_mode(model)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def train_mode(model: object) -> None:
    """Puts the model in training mode, if it has modes."""
    if isinstance(model, nn.Module):
        model.train()
