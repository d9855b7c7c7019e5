"""A convolutional network whose weights are noise of one fixed seed: features of images that need no file.

Random filters see edges, textures and how they vary, so a distance between such features reacts to noise, blur and lost
variety. Nobody trained them to see what people see: their Frechet distance is no FID and must not be called one.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..common.checks import require_shape
from ..data.images import is_image
from ..ops import make_key, normal
from .module import Network

VERSION = 1  # to be raised with every change of what is computed
WIDTHS = (32, 48, 64)


def random_conv(shape):
    """Features of images by `RandomConv`: x: (B, *shape), in [-1, 1] -> (B, 288).

    shape: (1 or 3, height, width), at least 8 x 8. Gray and colored images have different features.
    Raises ValueError for any other shape.
    """
    shape = require_shape("shape", shape)
    if not is_image(shape) or min(shape[1:]) < 8:
        raise ValueError(f"shape must be (1 or 3, height, width) of at least 8 x 8; got {shape}")
    return Network(RandomConv(shape[0]), "random_conv", shape, follow=True, version=VERSION)


class RandomConv(nn.Module):
    """Mean and standard deviation over the pixels of each channel of three stages.

        a_s = LeakyReLU(w_s * pool(a_{s-1}) + b_s),    w ~ N(0, 2 / (9 inputs)),    b ~ N(0, 1 / 4)

    with 3 x 3 filters over replicated borders, slope 0.2, and means of 2 x 2 pixels as pool; the first stage has none.
    The weights are the same bits everywhere.  x: (B, channels, H, W) -> (B, 2 sum(WIDTHS)).
    """

    def __init__(self, channels):
        super().__init__()
        self.stages = nn.ModuleList(
            _random_filters(index, *pair) for index, pair in enumerate(zip((channels, *WIDTHS), WIDTHS))
        )

    def forward(self, x):
        parts = []
        for index, stage in enumerate(self.stages):
            x = F.leaky_relu(stage(F.avg_pool2d(x, 2) if index else x), 0.2)
            parts += [x.mean((2, 3)), x.std((2, 3), correction=0)]
        return torch.cat(parts, 1)


def _random_filters(index, inputs, outputs):
    conv = nn.utils.skip_init(nn.Conv2d, inputs, outputs, 3, padding=1, padding_mode="replicate", dtype=torch.float32)
    noise = normal(make_key(0, [index]), (outputs, 9 * inputs + 1))[0]
    with torch.no_grad():
        conv.weight.copy_((noise[:, 1:] * (2 / (9 * inputs)) ** 0.5).reshape_as(conv.weight))
        conv.bias.copy_(noise[:, 0] / 2)
    return conv.requires_grad_(False)
