"""What is asked of a model before it is used: whether it wants labels, and where its weights are."""

import torch

from ..data.dataset import Data


def conditional(model, data: Data) -> bool:
    """Whether the model is to be asked for labels: it knows classes, and the data have them."""
    return getattr(model, "classes", 0) > 0 and data.label is not None


def device_of(model, data: Data) -> torch.device:
    """Where the weights of the model are; the data's, if it has none."""
    weights = model.parameters() if callable(getattr(model, "parameters", None)) else ()
    return next((p.device for p in weights), data.x.device)
