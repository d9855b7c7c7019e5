"""Networks: ordinary `torch.nn.Module`s called as `net(x, t, label=None, condition=None)`, those of conv.py and
feed_forward.py without t.

Each one keeps its constructor arguments in a JSON-able `config`, so that `type(net)(**net.config)` builds it again.
To add a network: one file here and one line in `NETWORKS`.
"""

from . import presets
from .conv import Decoder, Discriminator, Encoder, Generator
from .dit import DiT
from .feed_forward import FeedForward
from .mlp import MLP
from .unet import UNet

NETWORKS = {
    "Decoder": Decoder,
    "Discriminator": Discriminator,
    "DiT": DiT,
    "Encoder": Encoder,
    "FeedForward": FeedForward,
    "Generator": Generator,
    "MLP": MLP,
    "UNet": UNet,
}

__all__ = [
    "MLP",
    "NETWORKS",
    "Decoder",
    "DiT",
    "Discriminator",
    "Encoder",
    "FeedForward",
    "Generator",
    "UNet",
    "presets",
]
