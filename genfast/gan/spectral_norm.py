"""Spectral normalization: a layer whose weight is divided by its largest singular value. Miyato et al. 2018,
arXiv:1802.05957.

With W the weight as a matrix, a row for each output, the singular vectors come from one step of the power method in
every forward pass of the training,

    u = W v / |W v|,    v = W^T u / |W^T u|,    weight = W / (u^T W v),

and a weight of zero, which has no singular vectors, stays as it is. So a pass in training changes the buffers u and v,
as one through BatchNorm changes its own. The bits are those of
`torch.nn.utils.parametrizations.spectral_norm`, but the layer can be pickled.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)  # layers that can be normalized
STEPS = 16  # of the power method at the start
SMALLEST = 1e-12  # norm that a direction may have


class Spectral(nn.Module):
    """What `spectral_norm` adds to the class of a layer: `weight` is normalized, the parameter of that name is not."""

    @property
    def weight(self) -> Tensor:
        weight = self._parameters["weight"]
        matrix = _matrix(self, weight)
        if self.training:
            self._power_method(matrix)
        u, v = self.weight_u.clone(), self.weight_v.clone()  # a later pass changes them before this one's backward
        sigma = torch.vdot(u, torch.mv(matrix, v))
        return weight / torch.where(sigma == 0, 1, sigma)

    @torch.no_grad()
    def _power_method(self, matrix: Tensor, steps: int = 1) -> None:
        for _ in range(steps):
            _turn(self.weight_u, torch.mv(matrix, self.weight_v))
            _turn(self.weight_v, torch.mv(matrix.H, self.weight_u))

    def __reduce__(self):
        return _blank, (type(self).__mro__[2],), self.__dict__


def spectral_norm(net: nn.Module) -> None:
    """Normalizes the linear and convolutional layers of the network in place, but those with a parametrized weight."""
    for layer in net.modules():
        weight = layer._parameters.get("weight")
        if weight is None or not isinstance(layer, WEIGHTED) or isinstance(layer, Spectral):
            continue
        matrix = _matrix(layer, weight.detach())
        for name, length in (("weight_u", len(matrix)), ("weight_v", matrix.shape[1])):
            layer.register_buffer(name, F.normalize(matrix.new_empty(length).normal_(), dim=0, eps=SMALLEST))
        layer.__class__ = _spectral(type(layer))
        if not matrix.is_meta:  # a network that is being loaded gets its directions with the weights
            layer._power_method(matrix, STEPS)


@functools.cache
def _spectral(kind: type[nn.Module]) -> type[nn.Module]:
    return type(f"Spectral{kind.__name__}", (Spectral, kind), {})


def _blank(kind: type[nn.Module]) -> nn.Module:
    """A normalized layer without its state, for copies."""
    return _spectral(kind).__new__(_spectral(kind))


def _matrix(layer: nn.Module, weight: Tensor) -> Tensor:
    """The weight with a row for each output."""
    return (weight.transpose(0, 1) if isinstance(layer, TRANSPOSED) else weight).flatten(1)


def _turn(direction: Tensor, towards: Tensor) -> None:
    """Sets a direction, in place; zero gives none, and leaves it as it is."""
    turned = F.normalize(towards, dim=0, eps=SMALLEST)
    direction.copy_(torch.where(towards.norm() > SMALLEST, turned, direction))
