"""A plain network for vectors, without time: what a GAN needs of points, rows of a table or codes."""

import itertools

import torch
from torch import Tensor, nn

from .. import ops
from ..common.checks import require_choice, require_number
from .layers import require_input, require_sizes

ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU}


class FeedForward(nn.Module):
    """`depth` hidden layers of `width` between two linear maps, of x and, if wanted, of Fourier features of it:

        h = [x, sin B x, cos B x],  B: (fourier, inputs) of normal numbers times `frequency`, fixed

    A network learns slow functions first; the features let it tell points at a distance of about 1 / frequency.
    (Tancik et al. 2020, arXiv:2006.10739.) Discriminators of narrow modes need them, in our runs.

    x: (B, inputs) float -> (B, outputs).  fourier: number of frequencies, 0 for none.  frequency: in radians per unit
    of x.  act: "silu" or "relu".
    B is a function of its shape; the weights are torch's, drawn by its global generator.
    Raises ValueError for arguments, or an x, out of range.
    """

    def __init__(
        self, inputs: int, outputs: int, width: int = 64, depth: int = 3, fourier: int = 0, frequency: float = 2.0,
        act: str = "silu",
    ):  # fmt: skip
        super().__init__()
        inputs, outputs, width, depth = require_sizes(1, inputs=inputs, outputs=outputs, width=width, depth=depth)
        (fourier,), frequency = require_sizes(0, fourier=fourier), require_number("frequency", frequency, above=0)
        act = require_choice("act", act, ACTIVATIONS)
        self.config = {
            "inputs": inputs, "outputs": outputs, "width": width, "depth": depth, "fourier": fourier,
            "frequency": frequency, "act": act,
        }  # fmt: skip
        self.inputs, self.fourier = inputs, fourier
        key = ops.make_key(0, fourier, torch.get_default_device())
        drawn = ops.normal(key, (inputs,)) if fourier else torch.empty(0, inputs)
        self.register_buffer("frequencies", frequency * drawn)  # (fourier, inputs)
        widths = [inputs + 2 * fourier, *[width] * depth]
        hidden = [layer for pair in itertools.pairwise(widths) for layer in (nn.Linear(*pair), ACTIVATIONS[act]())]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, outputs))

    def forward(self, x: Tensor) -> Tensor:
        if require_input("x", x).ndim != 2 or x.shape[1] != self.inputs:
            raise ValueError(f"x must have shape (B, {self.inputs}); got {tuple(x.shape)}")
        if self.fourier:
            phase = x @ self.frequencies.T
            x = torch.cat([x, phase.sin(), phase.cos()], 1)
        return self.layers(x)
