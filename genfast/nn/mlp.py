"""A residual network for vectors."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from .conditioning import Conditioning, Prepares
from .layers import NormModulateAct, positive_int, zero


class MLP(Prepares):
    """A stack of h <- h + W_2 SiLU(W_1 NMA(h, c)) between two linear maps, conditioned on time, label and more.

    x: (B, *) float with prod(*) == features; t: (B,) float, the conditioning value of the parameterisation;
    label: (B,) int64 in [0, classes]; condition: (B, condition) float; of both None is null (`Conditions`) -> the shape
    of x. The output starts at zero.
    Raises ValueError / TypeError for arguments, x, t, label or condition of the wrong shape, dtype or range.
    """

    def __init__(self, features: int, width: int = 256, depth: int = 4, classes: int = 0, condition: int = 0):
        super().__init__()
        self.config = {
            "features": features, "width": width, "depth": depth, "classes": classes, "condition": condition,
        }  # fmt: skip
        self.features = positive_int("features", features)
        positive_int("width", width), positive_int("depth", depth)
        self.condition = Conditioning(width, classes, condition)
        self.input = nn.Linear(features, width)
        self.blocks = nn.ModuleList(VectorBlock(width) for _ in range(depth))
        self.norm = NormModulateAct(width, width, groups=1)
        self.output = zero(nn.Linear(width, features))
        self.number_columns()

    def forward(
        self, x: Tensor, t: Tensor, label: Tensor | None = None, condition: Tensor | None = None, *,
        prepared: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        if x.ndim < 2 or math.prod(x.shape[1:]) != self.features:
            raise ValueError(f"x must have shape (B, *) with {self.features} values a row, got {tuple(x.shape)}")
        if prepared is None:
            prepared = self.prepare(t, label, condition, rows=x)
        hidden = self.input(x.flatten(1))
        for block in self.blocks:
            hidden = block(hidden, prepared)
        return self.output(self.norm(hidden, prepared)).reshape(x.shape)


class VectorBlock(nn.Module):
    """y = x + W_2 SiLU(W_1 NMA(x)); x: (B, width), prepared: (B, M) -> (B, width)."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = NormModulateAct(width, width, groups=1)
        self.mix_1 = nn.Linear(width, width)
        self.mix_2 = nn.Linear(width, width)

    def forward(self, x: Tensor, prepared: Tensor) -> Tensor:
        return x + self.mix_2(F.silu(self.mix_1(self.norm(x, prepared))))
