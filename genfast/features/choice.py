"""Which features a user means."""

import math

from torch import nn

from ..common.checks import require_choice, require_shape
from ..data.images import is_image
from .base import Features
from .inception import inception
from .module import module
from .pixels import pixels
from .random_conv import random_conv

NAMED = {"pixels": pixels, "random_conv": random_conv, "inception": lambda shape: inception()}


def as_features(features, shape):
    """Features of samples of `shape` from what a user gave.

    features: None for `pixels` where a sample has at most 256 numbers or is no image, else `random_conv`; a name,
    "pixels", "random_conv" or "inception", whose file the environment variable GENFAST_INCEPTION names; a
    torch.nn.Module, whose output they are; or Features, as they are.
    Raises TypeError or ValueError for anything else.
    """
    shape = require_shape("shape", shape)
    if features is None:
        large = math.prod(shape) > 256 and is_image(shape) and min(shape[1:]) >= 8
        features = "random_conv" if large else "pixels"
    if isinstance(features, str):
        return NAMED[require_choice("features", features, NAMED)](shape)
    if isinstance(features, Features) and not isinstance(features, type):
        return features
    if isinstance(features, nn.Module):
        return module(features, shape=shape)
    raise TypeError(
        f"features must be None, one of {', '.join(NAMED)}, a torch.nn.Module or an object with name, dim, fingerprint "
        f"and a call; got {type(features).__name__}"
    )
