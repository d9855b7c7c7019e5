"""Networks: ordinary `torch.nn.Module`s called as `net(x, t, label=None, condition=None)`.

Each one keeps its constructor arguments in a JSON-able `config`, so that `type(net)(**net.config)` builds it again.
To add a network: one file here and one line in `NETWORKS`.
"""

from .dit import DiT
from .mlp import MLP
from .unet import UNet

NETWORKS = {"DiT": DiT, "MLP": MLP, "UNet": UNet}

__all__ = ["MLP", "NETWORKS", "DiT", "UNet"]
