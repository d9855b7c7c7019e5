"""Mixed precision: autocast over float32 weights, and for float16 a scale of the loss that follows the gradients.

Micikevicius et al. 2018, arXiv:1710.03740. The weights, the optimizer, the averages and the loss stay float32.
"""

import contextlib

import torch
from torch import Tensor

from .settings import PRECISIONS

START, UP, DOWN, PATIENCE = 2.0**16, 2.0, 0.5, 2000  # as torch.amp.GradScaler has them


class Precision:
    """How the loss is computed.

    scale: () float32, what the loss is multiplied by and the gradients are divided by again: 1 but for fp16, where it
    is doubled after 2,000 good steps on end and halved after a bad one, on the device.
    """

    def __init__(self, name: str, device: torch.device):
        self.device, self.dtype, self.scaled = device, PRECISIONS[name], name == "fp16"
        self.scale = torch.full((), START if self.scaled else 1.0, dtype=torch.float32, device=device)
        self.good = torch.zeros((), dtype=torch.int64, device=device)  # steps since the scale was changed
        self.keep_casts = True  # of weights, for the forward passes of one loss; not in a captured graph

    def autocast(self) -> contextlib.AbstractContextManager:
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype, cache_enabled=self.keep_casts)

    def up(self, loss: Tensor) -> Tensor:
        return loss * self.scale if self.scaled else loss

    @torch.no_grad()
    def down(self, gradients: list[Tensor]) -> None:
        if self.scaled and gradients:
            torch._foreach_mul_(gradients, 1 / self.scale)

    @torch.no_grad()
    def follow(self, good: Tensor) -> None:
        """good: () bool, whether the gradients of this step were finite."""
        if not self.scaled:
            return
        self.good.add_(1).mul_(good)
        enough = self.good >= PATIENCE
        self.scale.mul_(torch.where(good, torch.where(enough, UP, 1.0), DOWN))
        self.good.mul_(~enough)

    def tensors(self) -> dict[str, Tensor]:
        return {"scale": self.scale, "good": self.good} if self.scaled else {}

    def load(self, tensors: dict[str, Tensor]) -> None:
        for name, value in self.tensors().items():
            value.copy_(tensors[name])
