"""What is asked of a model before it is used: what it is told of the data, and where its weights are."""

import torch

from ..common.conditions import takes
from ..common.precision import weights_device
from ..common.warn import warn_user
from ..data.dataset import Data
from ..data.matching import for_model


def as_told(data: Data, model, settings: dict) -> Data:
    """The data as the model is told of them, see `for_model`: without labels where it knows no `classes`, and without
    conditions, with a UserWarning, where its `sample` takes none. What the settings of `sample` have need not be there.
    """
    given = {"label": data.label, "condition": data.condition}
    tell = {name for name, values in given.items() if not (values is None and name in settings)}
    if not hasattr(model, "classes"):
        tell -= {"label"}
    if not takes(model.sample, "condition"):
        if data.condition is not None:
            name = type(model).__name__
            warn_user(f"data have conditions, which {name}.sample does not take: they are left out")
        tell -= {"condition"}
    return for_model(data, model, tell=tell)


def device_of(model, data: Data) -> torch.device:
    """Where the weights of the model are; the data's, if it has none."""
    return weights_device(model, data.device)
