"""Any network as features."""

import torch
from torch import Tensor, nn

from ..common.checks import require_shape
from .base import check_samples, fingerprint, inference


class Network:
    """Features that are a network's output, flattened. x: (B, *shape) float32 -> (B, D) float32.

    The network is called in eval mode, without gradients, and left in the mode that it was in. The fingerprint is that
    of its present weights, with its class's name, the shape and the settings.
    follow    whether the network moves to where the samples are, or they to it
    settings  anything JSON-able that the output depends on besides weights and class
    """

    def __init__(self, net, name, shape, *, follow=False, **settings):
        self.net, self.name, self.shape = net, name, require_shape("shape", shape)
        self.follow, self.settings = follow, settings
        self.dim = self(torch.zeros(1, *self.shape, dtype=torch.float32, device=self._device() or "cpu")).shape[1]

    @property
    def fingerprint(self):
        name = type(self.net).__qualname__
        return fingerprint(self.net.state_dict(), network=name, shape=self.shape, **self.settings)

    def __call__(self, x):
        check_samples(x, self.shape)
        if self.follow:
            self.net.to(x.device)
        device = self._device() or x.device
        with inference(self.net, device):
            y = self.net(x.to(device))
        if not isinstance(y, Tensor) or not y.is_floating_point() or y.ndim < 2 or len(y) != len(x):
            got = f"{tuple(y.shape)}, {y.dtype}" if isinstance(y, Tensor) else type(y).__name__
            raise TypeError(f"net must answer with shape ({len(x)}, *), floating-point; got {got}")
        return y.flatten(1).float()

    def _device(self):
        """Where the network is; None if it has no weights."""
        return next((value.device for value in self.net.state_dict().values()), None)


def module(net, name=None, *, shape):
    """Features from any module: its output, flattened, on samples of `shape`.

    net   maps (B, *shape) float32 to (B, *) floating-point without mixing rows; samples go to the device where it is
    name  as it stands in a report; the class's name by default
    Training the network on changes its fingerprint; changing the code of its class does not.
    Raises TypeError if net is no module or answers with something else.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module; got {type(net).__name__}")
    if not isinstance(name, str | None):
        raise TypeError(f"name must be a string or None; got {type(name).__name__}")
    return Network(net, type(net).__name__ if name is None else name, shape)
