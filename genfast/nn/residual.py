"""Residual blocks and attention of a U-Net."""

import dataclasses
import math
from collections.abc import Sequence

from torch import Tensor, nn

from .. import ops
from ..common.checks import require_choice, require_integer, require_number, shown
from .attention import attend, split_heads
from .conditioning import Modulation
from .layers import CONVOLUTIONS, NormAct, without_bias
from .resample import Downsample, Pool, Repeat, Upsample
from .winograd import Convolution

MODULATIONS, RESAMPLINGS = ("scale_shift", "add"), ("mean", "convolution", "convolution behind")
SINUSOID = {"shift", "flip", "scale"}
MIDDLES = ("attention", "attention without norm", "blocks")


@dataclasses.dataclass(frozen=True)
class Style:
    """How the parts of a U-Net are built.

    dims          of an image: 1 for sequences (B, C, L), 2 for (B, C, H, W), 3 for (B, C, D, H, W)
    modulation    of a block's second norm by the conditioning vector: "scale_shift" (Dhariwal and Nichol 2021,
                  arXiv:2105.05233), or "add", a vector added before it (Ho et al. 2020, arXiv:2006.11239)
    resample      "mean": down by the mean of 2x2 pixels, up by repeating them; "convolution": 3x3 convolutions that do
                  so too; "convolution behind": the same, padded on one side on the way down (see Downsample)
    middle        "attention": block, attention, block; "attention without norm"; "blocks": two blocks
    head_width    channels of an attention head where it divides them, else there is a single head; None: a single one
    skip_scale    s in s (x + f(x)): sqrt(1/2) keeps the variance level (Song et al. 2021, arXiv:2011.13456), 1 is
                  usual elsewhere
    groups, eps   of the norms; None: see `group_count`
    dropout       before a block's second convolution, in training: a function of the argument `key` of the network
    timesteps     None: t is of the order of 1 (see Conditioning). {"shift", "flip"}: t counts up to about 1000 steps
                  (see Sinusoid); with {"scale": 999} beside them the network is told t in [0, 1] and counts by itself
    """

    dims: int = 2
    modulation: str = "scale_shift"
    resample: str = "mean"
    middle: str = "attention"
    head_width: int | None = 64
    skip_scale: float = math.sqrt(0.5)
    groups: int | None = None
    eps: float = 1e-5
    dropout: float = 0.0
    timesteps: dict | None = None

    def __post_init__(self):
        checked = {
            "dims": require_choice("dims", self.dims, CONVOLUTIONS),
            "modulation": require_choice("modulation", self.modulation, MODULATIONS),
            "resample": require_choice("resample", self.resample, RESAMPLINGS),
            "middle": require_choice("middle", self.middle, MIDDLES),
            "head_width": None if self.head_width is None else require_integer("head_width", self.head_width, 1),
            "skip_scale": require_number("skip_scale", self.skip_scale, above=0),
            "groups": None if self.groups is None else require_integer("groups", self.groups, 1),
            "eps": require_number("eps", self.eps, above=0),
            "dropout": require_number("dropout", self.dropout, least=0, below=1),
        }
        if self.timesteps is not None and not (isinstance(self.timesteps, dict) and self.timesteps.keys() <= SINUSOID):
            known = ", ".join(sorted(SINUSOID))
            raise ValueError(f"timesteps must be a dict of {known}, or None; got {shown(self.timesteps)}")
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def norm(self, channels: int, act: str = "silu") -> NormAct:
        return NormAct(channels, self.groups, self.eps, act)

    def convolution(self, inputs: int, outputs: int, size: int = 3) -> nn.Module:
        if self.dims == 2 and size == 3:
            return Convolution(inputs, outputs)
        return CONVOLUTIONS[self.dims](inputs, outputs, size, padding=size // 2)

    def halve(self, channels: int) -> nn.Module:
        return Pool() if self.resample == "mean" else Downsample(channels, self.dims, self.resample.endswith("behind"))

    def double(self, channels: int) -> nn.Module:
        return Repeat() if self.resample == "mean" else Upsample(channels, self.dims)

    def middle_attention(self, channels: int) -> "Attention | None":
        return None if self.middle == "blocks" else Attention(channels, self, norm=self.middle == "attention")

    def sum(self, x: Tensor, y: Tensor, bias: Tensor | None = None) -> Tensor:
        """skip_scale (x + y + bias)."""
        return ops.residual(x, y, bias, self.skip_scale)


class ResidualBlock(nn.Module):
    """y = s (skip(x) + mix_2(dropout(norm_2(mix_1(norm_1(x)))))), each norm followed by SiLU, the second modulated.

    x: (B, inputs, *), vectors: those of all layers, see `Prepares`, key: (B, 2), or None for no dropout
    -> (B, outputs, *). `skip` is a 1x1 convolution where the number of channels changes.
    """

    layer = 0  # its number among those of the network, for `ops.dropout`

    def __init__(self, inputs: int, outputs: int, conditioning: int, style: Style):
        super().__init__()
        self.style = style
        self.norm_1 = style.norm(inputs)
        self.mix_1 = style.convolution(inputs, outputs)
        self.modulation = Modulation(conditioning, outputs, 2 if style.modulation == "scale_shift" else 1)
        self.norm_2 = style.norm(outputs)
        self.mix_2 = style.convolution(outputs, outputs)
        self.skip = nn.Identity() if inputs == outputs else style.convolution(inputs, outputs, 1)

    def forward(self, x: Tensor, vectors: Sequence[Tensor], key: Tensor | None = None) -> Tensor:
        (hidden, bias), own = without_bias(self.mix_1, self.norm_1(x)), self.modulation.of(vectors)
        if self.style.modulation == "add":
            hidden = self.norm_2(hidden, add=own[0] if bias is None else own[0] + bias)
        else:
            hidden = self.norm_2(hidden, *own, add=bias)
        if key is not None:
            hidden = ops.dropout(hidden, key, self.style.dropout, self.layer)
        (skip, first), (mixed, second) = without_bias(self.skip, x), without_bias(self.mix_2, hidden)
        return self.style.sum(skip, mixed, second if first is None else first + second)


class Attention(nn.Module):
    """Self-attention over the pixels, added to the input: y = s (x + W softmax(q k^T / sqrt(d)) v), d = head_width.

    x: (B, C, *) -> the same; q, k and v are linear in the GroupNorm of x. (Vaswani et al. 2017, arXiv:1706.03762.)
    """

    def __init__(self, channels: int, style: Style, norm: bool = True):
        super().__init__()
        self.style, width = style, style.head_width
        self.heads = 1 if width is None or channels % width else channels // width
        self.norm = style.norm(channels, act="none") if norm else nn.Identity()
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.output = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        # Of a channels-last image no copy; of others one, for then the product adds its bias by itself.
        tokens = self.norm(x).flatten(2).transpose(1, 2).contiguous()
        mixed = attend(*split_heads(self.query_key_value(tokens), self.heads))
        return self.style.sum(x, self.output(mixed).transpose(1, 2).reshape(x.shape))
