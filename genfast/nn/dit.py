"""A transformer on the patches of an image, or of any grid."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ..common.checks import is_integer, require_bool, require_choice, require_number, require_shape
from .attention import attend, split_heads
from .conditioning import Conditioning, Modulation, Prepares, TimeFeatures
from .layers import SIZE, require_input, require_sizes, zero


class DiT(Prepares):
    """Blocks of self-attention and a two-layer network on patches, modulated by time and conditions ("adaLN-zero";
    Peebles and Xie 2022, arXiv:2212.09748). With (scale, shift, gate) of each half block, linear in the conditioning,

        h <- h + gate * mix((1 + scale) LayerNorm(h) + shift),   mix attention and feed-forward in turn

    patch: the sides of a patch, one number for a square or one for each axis: (4,) is for signals (B, C, L), (2, 2) for
    images, (1, 2, 2) for films. feedforward: "gelu", or "swiglu" / "geglu" with as many weights. qk_norm: queries and
    keys by their root mean square, times a learned weight (Dehghani et al. 2023, arXiv:2302.05442).

    x: (B, channels, *size) float, every size divisible by its patch; t: (B,) float, the conditioning value of the
    parameterization; label: (B,) integers in [0, classes]; condition: (B, condition) float; of both None is null
    (`Conditions`) -> the shape of x. The output starts at zero, every block as the identity.
    Raises ValueError / TypeError for arguments, x, t, label or condition of the wrong shape, dtype or range.
    """

    def __init__(
        self,
        channels: int = 1,
        patch: int | Sequence[int] = 2,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        ratio: float = 4.0,
        feedforward: str = "gelu",
        qk_norm: bool = False,
        classes: int = 0,
        condition: int = 0,
    ):
        super().__init__()
        channels, width, depth, heads = require_sizes(1, channels=channels, width=width, depth=depth, heads=heads)
        classes, condition = require_sizes(0, classes=classes, condition=condition)
        patch = list(require_shape("patch", [patch, patch] if is_integer(patch) else patch))
        ratio, qk_norm = require_number("ratio", ratio, above=0, most=SIZE), require_bool("qk_norm", qk_norm)
        require_sizes(1, patch=math.prod(patch))
        self.config = {
            "channels": channels, "patch": patch, "width": width, "depth": depth, "heads": heads, "ratio": ratio,
            "feedforward": feedforward, "qk_norm": qk_norm, "classes": classes, "condition": condition,
        }  # fmt: skip
        self.channels, self.patch = channels, patch
        if len(patch) > 3:
            raise ValueError(f"patch must name one to three sides; got {patch}")
        if width % heads:
            raise ValueError(f"heads must divide width, {width}; got {heads}")
        if width % (2 * len(patch)):
            raise ValueError(f"width must be divisible by {2 * len(patch)}, a sine and a cosine an axis; got {width}")
        size = channels * math.prod(patch)
        self.condition = Conditioning(width, classes, condition)
        self.input = nn.Linear(size, width)
        self.places = GridFeatures(width, len(patch))
        self.mixes = nn.ModuleList(
            mix
            for _ in range(depth)
            for mix in (TokenAttention(width, heads, qk_norm), FeedForward(width, ratio, feedforward))
        )
        self.modulations = nn.ModuleList(zero(Modulation(width, width, 3)) for _ in self.mixes)
        self.last_modulation = zero(Modulation(width, width, 2))
        self.output = zero(nn.Linear(width, size))
        self.number_vectors()
        for layer in (self.input, *self.mixes.modules()):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(
        self, x: Tensor, t: Tensor, label: Tensor | None = None, condition: Tensor | None = None, *,
        prepared: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        grid = self.grid_of(x)
        vectors = self.vectors(x, t, label, condition, prepared)
        h = self.input(self.patches(x, grid))
        h = h + self.places(grid).to(h.dtype)
        vectors = [modulation.of(vectors) for modulation in (*self.modulations, self.last_modulation)]
        y = ops.layer_norm_modulate(h, *vectors[0][:2])
        # A gate and its residual go together with the norm that comes after them, that of the next half block.
        for mix, (_, _, gate), (scale, shift, *_) in zip(self.mixes, vectors[:-1], vectors[1:], strict=True):
            h, y = ops.gate_residual_norm_modulate(h, gate, mix(y), scale, shift)
        return self.image(self.output(y), grid)

    def grid_of(self, x: Tensor) -> list[int]:
        """How many patches x has along each axis."""
        axes = len(self.patch)
        if require_input("x", x).ndim != 2 + axes or x.shape[1] != self.channels:
            sizes = ("L", "H, W", "D, H, W")[axes - 1]
            raise ValueError(f"x must have shape (B, {self.channels}, {sizes}); got {tuple(x.shape)}")
        if any(size % side or not size for size, side in zip(x.shape[2:], self.patch, strict=True)):
            raise ValueError(
                f"x must have positive sizes divisible by the patch, {self.patch}; got {tuple(x.shape[2:])}"
            )
        return [size // side for size, side in zip(x.shape[2:], self.patch, strict=True)]

    def patches(self, x: Tensor, grid: list[int]) -> Tensor:
        """(B, C, *size) -> (B, T, C prod(patch))."""
        axes = len(grid)
        x = x.reshape(*x.shape[:2], *(n for pair in zip(grid, self.patch, strict=True) for n in pair))
        order = [*range(2, 2 + 2 * axes, 2), 1, *range(3, 3 + 2 * axes, 2)]
        return x.permute(0, *order).flatten(1, axes).flatten(2)

    def image(self, tokens: Tensor, grid: list[int]) -> Tensor:
        """The inverse of `patches`."""
        axes = len(grid)
        x = tokens.reshape(len(tokens), *grid, self.channels, *self.patch)
        order = [1 + axes, *(n for axis in range(axes) for n in (1 + axis, 2 + axes + axis))]
        sizes = [n * side for n, side in zip(grid, self.patch, strict=True)]
        return x.permute(0, *order).reshape(len(tokens), self.channels, *sizes)


class TokenAttention(nn.Module):
    """W softmax(q k^T / sqrt(d)) v, heads of d = width / heads.  x: (B, T, width) -> the same."""

    def __init__(self, width: int, heads: int, qk_norm: bool):
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.query_weight = nn.Parameter(torch.ones(width // heads)) if qk_norm else None
        self.key_weight = nn.Parameter(torch.ones(width // heads)) if qk_norm else None

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = split_heads(self.query_key_value(x), self.heads)
        if self.query_weight is not None:
            query = ops.rms_norm_modulate(query, weight=self.query_weight)
            key = ops.rms_norm_modulate(key, weight=self.key_weight)
        return self.output(attend(query, key, value))


class FeedForward(nn.Module):
    """W_2 act(W_1 x).  x: (B, T, width) -> the same.

    The two kinds that gate one half of W_1 x by the other have two thirds of the hidden features, rounded to eights.
    (Shazeer 2020, arXiv:2002.05202.)
    """

    KINDS = ("gelu", "swiglu", "geglu")

    def __init__(self, width: int, ratio: float, kind: str):
        super().__init__()
        self.kind = require_choice("feedforward", kind, self.KINDS)
        if ratio * width < 1:
            raise ValueError(f"ratio must be at least 1 / width, for one hidden feature or more; got {ratio!r}")
        hidden = int(ratio * width) if kind == "gelu" else max(1, round(ratio * width / 12)) * 8
        self.first = nn.Linear(width, hidden if kind == "gelu" else 2 * hidden)
        self.second = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "gelu":
            hidden = ops.bias_act(F.linear(x, self.first.weight), self.first.bias, act="gelu_tanh")
        else:
            hidden = (ops.swiglu if self.kind == "swiglu" else ops.geglu)(self.first(x))
        return self.second(hidden)


class GridFeatures(TimeFeatures):
    """[sin(n f_k), cos(n f_k)] of the place n along each axis, f_k = 10000^(-k / K), one axis after the other.

    grid, `axes` sizes -> (prod(grid), width); K = width / (2 axes). (Vaswani et al. 2017, arXiv:1706.03762, 3.5.)
    """

    def __init__(self, width: int, axes: int):
        super().__init__(ops.sinusoidal_frequencies(width // (2 * axes)))

    def forward(self, grid: Sequence[int]) -> Tensor:
        waves = super().forward(torch.arange(max(grid), dtype=torch.float32, device=self.bits.device))
        along = []
        for axis, size in enumerate(grid):
            shape = [size if axis == other else 1 for other in range(len(grid))]
            along.append(waves[:size].reshape(*shape, -1).expand(*grid, -1))
        return torch.cat(along, -1).flatten(0, -2)
