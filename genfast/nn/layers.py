"""What the networks are made of. Every layer is row-wise: a sample never sees the other samples of its batch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def positive_int(name: str, value: int) -> int:
    """`value` itself. Raises ValueError naming the argument unless it is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    return value


def group_count(channels: int) -> int:
    """The largest number of groups, at most 32, that divides `channels` into groups of four or more."""
    return max(groups for groups in range(1, 33) if channels % groups == 0 and (channels // groups >= 4 or groups == 1))


class FourierFeatures(nn.Module):
    """phi(t) = [cos(f_k t), sin(f_k t)] with f_k geometric from 1 to `maximum` radians per unit of t.

    t: (B,) -> (B, features). Computed in float32 or better, whatever the dtype of the network: a bf16 angle of
    100 radians is off by a quarter of a radian. (Vaswani et al. 2017, arXiv:1706.03762, section 3.5.)
    """

    def __init__(self, features: int, maximum: float = 100.0):
        super().__init__()
        if features < 4 or features % 2:
            raise ValueError(f"features must be an even number of at least 4, got {features}")
        self.features, self.maximum = features, maximum

    def forward(self, t: Tensor) -> Tensor:
        dtype = torch.promote_types(t.dtype, torch.float32)
        exponent = torch.linspace(0.0, math.log(self.maximum), self.features // 2, dtype=dtype, device=t.device)
        angle = t.to(dtype)[:, None] * exponent.exp()
        return torch.cat([angle.cos(), angle.sin()], dim=1)


class Conditioning(nn.Module):
    """One vector per sample from its time and label: SiLU(W_2 SiLU(W_1 phi(t) + e_label)).

    t: (B,) float; label: (B,) int64 in [0, classes], where `classes` itself is the null label and None means null
    for all -> (B, features). With classes = 0 there is no label and none may be given.
    Raises TypeError / ValueError for a t or label of the wrong dtype, shape or range.
    """

    def __init__(self, features: int, classes: int = 0, fourier: int = 64):
        super().__init__()
        if isinstance(classes, bool) or not isinstance(classes, int) or classes < 0:
            raise ValueError(f"classes must be an integer of at least 0, got {classes!r}")
        self.classes = classes
        self.fourier = FourierFeatures(fourier)
        self.first = nn.Linear(fourier, features)
        self.label = nn.Embedding(classes + 1, features) if classes else None
        self.second = nn.Linear(features, features)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """`x` is only looked at for the number of rows and the device."""
        self.check(x, t, label)
        hidden = self.first(self.fourier(t).to(self.first.weight.dtype))
        if self.label is not None:
            if label is None:
                label = torch.full_like(t, self.classes, dtype=torch.int64)
            hidden = hidden + self.label(label)
        return F.silu(self.second(F.silu(hidden)))

    def check(self, x: Tensor, t: Tensor, label: Tensor | None) -> None:
        if not t.is_floating_point():
            raise TypeError(f"t must be a floating-point tensor, got {t.dtype}")
        if t.shape != x.shape[:1]:
            raise ValueError(f"t must have shape ({x.shape[0]},), one value per row of x, got {tuple(t.shape)}")
        if label is None:
            return
        if not self.classes:
            raise ValueError("label was given to an unconditional network: build it with classes > 0")
        if label.dtype != torch.int64:
            raise TypeError(f"label must be an int64 tensor, got {label.dtype}")
        if label.shape != t.shape:
            raise ValueError(f"label must have shape ({x.shape[0]},), one value per row of x, got {tuple(label.shape)}")
        # Looking at the values would stall a GPU and break a traced graph; there the embedding's own check stands.
        if label.device.type == "cpu" and label.numel() and not torch.compiler.is_compiling():
            low, high = (int(bound) for bound in label.aminmax())
            if low < 0 or high > self.classes:
                raise ValueError(f"label must lie in [0, {self.classes}] ({self.classes} is null), got {low}..{high}")


class NormModulateAct(nn.Module):
    """y = SiLU((1 + scale) * GroupNorm(x) + shift), with scale and shift linear in the conditioning vector.

    x: (B, C, *), prepared: (B, M), what `Prepares.prepare` made of that vector for all layers -> (B, C, *). Group
    normalisation without an affine part of its own (Wu and He 2018, arXiv:1803.08494), modulated as in FiLM (Perez et
    al. 2017, arXiv:1709.07871).
    """

    def __init__(self, channels: int, conditioning: int, groups: int | None = None):
        super().__init__()
        self.groups = group_count(channels) if groups is None else groups
        self.modulation = nn.Linear(conditioning, 2 * channels)

        self.columns = slice(0, 2 * channels)  # of `prepared`; see Prepares

    def forward(self, x: Tensor, prepared: Tensor) -> Tensor:
        scale, shift = prepared[:, self.columns].unflatten(1, (2, -1) + (1,) * (x.ndim - 2)).unbind(1)
        return F.silu(torch.addcmul(shift, 1 + scale, F.group_norm(x, self.groups)))


class Prepares(nn.Module):
    """A network whose dependence on time and label goes through its NormModulateAct layers alone, so that it can be
    computed beforehand: `net(x, t, label)` is `net(x, t, prepared=net.prepare(t, label))`.

    A subclass has `condition`, a Conditioning, and calls `number_columns` at the end of its constructor.
    """

    prepares = True

    def number_columns(self) -> None:
        """Gives every NormModulateAct its columns of what `prepare` answers."""
        start = 0
        for norm in self._norms():
            norm.columns = slice(start, start + norm.modulation.out_features)
            start = norm.columns.stop

    def prepare(self, t: Tensor, label: Tensor | None = None, *, rows: Tensor | None = None) -> Tensor:
        """Every layer's scale and shift, (B, M). t: (B,) float; label: (B,) int64; rows: (B, *), whose they are."""
        c = self.condition(t if rows is None else rows, t, label)
        return torch.cat([norm.modulation(c) for norm in self._norms()], dim=1)

    def _norms(self) -> list[NormModulateAct]:
        return [module for module in self.modules() if isinstance(module, NormModulateAct)]


class ResidualBlock(nn.Module):
    """y = (skip(x) + mix_2(NMA(mix_1(NMA(x))))) / sqrt(2), NMA being NormModulateAct.

    x: (B, inputs, H, W), prepared: (B, M) -> (B, outputs, H, W). `skip` is a 1x1 convolution where the number of
    channels changes. The division keeps the variance level through a stack of blocks (Karras et al. 2022,
    arXiv:2206.00364).
    """

    def __init__(self, inputs: int, outputs: int, conditioning: int):
        super().__init__()
        self.norm_1 = NormModulateAct(inputs, conditioning)
        self.mix_1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm_2 = NormModulateAct(outputs, conditioning)
        self.mix_2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, prepared: Tensor) -> Tensor:
        hidden = self.mix_1(self.norm_1(x, prepared))
        hidden = self.mix_2(self.norm_2(hidden, prepared))
        return (self.skip(x) + hidden) * math.sqrt(0.5)


class Attention(nn.Module):
    """Self-attention over the pixels, added to the input: y = (x + W softmax(q k^T / sqrt(d)) v) / sqrt(2).

    x: (B, C, H, W) -> the same. Heads of d = 64 channels where 64 divides C, else a single one.
    (Vaswani et al. 2017, arXiv:1706.03762.)
    """

    def __init__(self, channels: int):
        super().__init__()
        self.heads = 1 if channels % 64 else channels // 64
        self.norm = nn.GroupNorm(group_count(channels), channels)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.output = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.query_key_value(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1)).transpose(-1, -2)
        query, key, value = tokens.unbind(1)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(-1, -2)
        return (x + self.output(mixed.reshape(x.shape))) * math.sqrt(0.5)


def zero(layer: nn.Module) -> nn.Module:
    """`layer` with all its parameters set to zero: a network that starts as the zero function."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
