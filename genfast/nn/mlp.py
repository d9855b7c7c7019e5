"""A residual network for vectors."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from .conditioning import Conditioning, Modulation, Prepares
from .layers import require_input, require_sizes, zero


class MLP(Prepares):
    """A stack of h <- h + W_2 SiLU(W_1 NormAct(h)) between two linear maps, conditioned on time, label and more.

    x: (B, *) float with prod(*) == features; t: (B,) float, the conditioning value of the parameterization;
    label: (B,) integers in [0, classes]; condition: (B, condition) float; of both None is null (`Conditions`) -> the
    shape of x. The output starts at zero.
    Raises ValueError / TypeError for arguments, x, t, label or condition of the wrong shape, dtype or range.
    """

    def __init__(self, features: int, width: int = 256, depth: int = 4, classes: int = 0, condition: int = 0):
        super().__init__()
        features, width, depth = require_sizes(1, features=features, width=width, depth=depth)
        classes, condition = require_sizes(0, classes=classes, condition=condition)
        self.config = {
            "features": features, "width": width, "depth": depth, "classes": classes, "condition": condition,
        }  # fmt: skip
        self.features = features
        self.condition = Conditioning(width, classes, condition)
        self.input = nn.Linear(features, width)
        self.blocks = nn.ModuleList(VectorBlock(width) for _ in range(depth))
        self.norm = NormAct(width)
        self.output = zero(nn.Linear(width, features))
        self.number_vectors()

    def forward(
        self, x: Tensor, t: Tensor, label: Tensor | None = None, condition: Tensor | None = None, *,
        prepared: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        if require_input("x", x).ndim < 2 or math.prod(x.shape[1:]) != self.features:
            raise ValueError(f"x must have shape (B, *) with {self.features} values a row; got {tuple(x.shape)}")
        vectors = self.vectors(x, t, label, condition, prepared)
        hidden = self.input(x.flatten(1))
        for block in self.blocks:
            hidden = block(hidden, vectors)
        return self.output(self.norm(hidden, vectors)).reshape(x.shape)


class NormAct(nn.Module):
    """y = SiLU((1 + scale) x_hat + shift), x_hat = (x - mean) / std of a row; scale and shift are modulations.

    x: (B, width), vectors: those of all layers, see `Prepares` -> (B, width).
    """

    def __init__(self, width: int):
        super().__init__()
        self.modulation = Modulation(width, width)

    def forward(self, x: Tensor, vectors: Sequence[Tensor]) -> Tensor:
        return ops.bias_act(ops.layer_norm_modulate(x, *self.modulation.of(vectors)), act="silu")


class VectorBlock(nn.Module):
    """y = x + W_2 SiLU(W_1 NormAct(x)); x: (B, width), vectors: as of NormAct -> (B, width)."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = NormAct(width)
        self.mix_1 = nn.Linear(width, width)
        self.mix_2 = nn.Linear(width, width)

    def forward(self, x: Tensor, vectors: Sequence[Tensor]) -> Tensor:
        return x + self.mix_2(ops.bias_act(F.linear(self.norm(x, vectors), self.mix_1.weight), self.mix_1.bias))
