"""Samples as their own features."""

from torch import nn

from .module import Network


def pixels(shape):
    """The numbers of a sample as they are. x: (B, *shape) -> (B, D) with D = prod(shape).

    For vectors and small images: a Frechet distance in D dimensions wants several times D samples.
    """
    return Network(nn.Flatten(), "pixels", shape)
