"""How a network depends on time and label, and how that is computed beforehand for all times of a plan."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ..common.checks import holds_integers, require_integer
from ..common.precision import readable
from .layers import require_sizes


class TimeFeatures(nn.Module):
    """phi(t) = ops.time_embedding(t, frequencies): (B,) -> (B, 2 K) float32, or float64 where t is.

    frequencies: (K,) float64. They follow the module's device but never its dtype, and are not in its state: a bf16
    angle of 100 radians is off by a quarter of a radian. So they are kept as the bits that they are.
    """

    def __init__(self, frequencies: Tensor, *, flip: bool = False, log: bool = False):
        super().__init__()
        self.features, self.flip, self.log = 2 * len(frequencies), flip, log
        self.register_buffer("bits", frequencies.view(torch.int64), persistent=False)

    @property
    def frequencies(self) -> Tensor:
        return self.bits.view(torch.float64)

    def forward(self, t: Tensor) -> Tensor:
        return ops.time_embedding(t, self.frequencies, flip=self.flip, log=self.log)


class FourierFeatures(TimeFeatures):
    """phi(t) = [cos(f_k t), sin(f_k t)] with f_k geometric from 1 to `maximum` radians per unit of t.

    t: (B,) -> (B, features). (Vaswani et al. 2017, arXiv:1706.03762, section 3.5.)
    """

    def __init__(self, features: int, maximum: float = 100.0):
        features = require_integer("features", features, 4)
        if features % 2:
            raise ValueError(f"features must be even; got {features}")
        super().__init__(ops.geometric_frequencies(features // 2, 1.0, maximum), flip=True)


class Conditions(nn.Module):
    """What a network is told beside time, added to a vector: h + e_label + W c.

    h: (B, features); label: (B,) integers in [0, classes], where `classes` itself is the null label; c, the argument
    `condition`: (B, condition) float, attributes or an embedding -> (B, features).
    None is null for all rows, and so is a row of `condition` with a NaN in it, a missing value: a learned vector takes
    the place of W c. With classes = 0 no label may be given, with condition = 0 no condition.
    Raises TypeError / ValueError for a label or condition of the wrong dtype, shape or range.
    """

    def __init__(self, features: int, classes: int = 0, condition: int = 0):
        super().__init__()
        features = require_integer("features", features, 0)
        classes, condition = require_sizes(0, classes=classes, condition=condition)
        self.classes, self.width = classes, condition
        self.label = nn.Embedding(classes + 1, features) if classes else None
        self.vector = nn.Linear(condition, features, bias=False) if condition else None
        self.null = nn.Parameter(torch.randn(features)) if condition else None

    def forward(self, h: Tensor, label: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        self.check(h, label, condition)
        if self.label is not None:
            if label is None:
                label = torch.full((len(h),), self.classes, device=h.device)
            h = h + self.label(label.long())
        if self.vector is not None:
            if condition is None:
                return h + self.null
            # Zeros before the product: the gradient of a product with NaN is NaN.
            missing = condition.isnan().any(dim=1, keepdim=True)
            condition = torch.where(missing, 0.0, condition).to(self.null.dtype)
            h = h + torch.where(missing, self.null, self.vector(condition))
        return h

    def check(self, rows: Tensor, label: Tensor | None, condition: Tensor | None) -> None:
        """`rows` is only looked at for their number."""
        if condition is not None:
            if not self.width:
                raise ValueError("condition was given to a network without one: build it with condition > 0")
            if not isinstance(condition, Tensor) or not condition.is_floating_point():
                raise TypeError(f"condition must be a floating-point tensor; got {_kind(condition)}")
            if condition.shape != (len(rows), self.width):
                raise ValueError(f"condition must have shape ({len(rows)}, {self.width}); got {tuple(condition.shape)}")
        if label is None:
            return
        if not self.classes:
            raise ValueError("label was given to an unconditional network: build it with classes > 0")
        if not isinstance(label, Tensor) or not holds_integers(label):
            raise TypeError(f"label must hold integers; got {_kind(label)}")
        if label.shape != rows.shape[:1]:
            raise ValueError(f"label must have shape ({len(rows)},), one value per row of x; got {tuple(label.shape)}")
        # Looking at the values would stall a GPU, break a traced graph and stop vmap; there the embedding's own check
        # stands.
        if readable(label) and label.numel():
            low, high = (int(bound) for bound in label.long().aminmax())
            if low < 0 or high > self.classes:
                raise ValueError(f"label must lie in [0, {self.classes}] ({self.classes} is null); got {low}..{high}")


def _kind(value: object) -> object:
    return value.dtype if isinstance(value, Tensor) else type(value).__name__


class Conditioning(nn.Module):
    """One vector per sample from its time, label and condition: SiLU(W_2 SiLU(W_1 phi(t)) + e_label + W c).

    t: (B,) float; label, condition: as in `Conditions` -> (B, features).
    time: phi, a module from (B,) to (B, time.features); by default FourierFeatures(64).
    Raises TypeError / ValueError for a t, label or condition of the wrong dtype, shape or range.
    """

    def __init__(self, features: int, classes: int = 0, condition: int = 0, *, time: nn.Module | None = None):
        super().__init__()
        self.time = FourierFeatures(64) if time is None else time
        self.first = nn.Linear(self.time.features, features)
        self.second = nn.Linear(features, features)
        self.conditions = Conditions(features, classes, condition)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """`x` is only looked at for the number of rows."""
        if not isinstance(t, Tensor) or not t.is_floating_point():
            raise TypeError(f"t must be a floating-point tensor; got {_kind(t)}")
        if not t.ndim:
            raise ValueError("t must have shape (B,), one value per row of x; got ()")
        if t.shape != x.shape[:1]:
            raise ValueError(f"t must have shape ({x.shape[0]},), one value per row of x; got {tuple(t.shape)}")
        hidden = self.first(self.time(t).to(self.first.weight.dtype))
        return F.silu(self.conditions(self.second(F.silu(hidden)), label, condition))


class Modulation(nn.Linear):
    """`parts` vectors of `channels` numbers, linear in the conditioning vector: (B, parts * channels).

    A network makes those of all its layers at once (`Prepares`); a layer finds its own with `of`.
    """

    def __init__(self, conditioning: int, channels: int, parts: int = 2):
        super().__init__(conditioning, parts * channels)
        self.widths = [channels] * parts
        self.place = slice(0, parts)  # among the vectors of all layers

    def of(self, vectors: Sequence[Tensor]) -> Sequence[Tensor]:
        """This layer's vectors, each (B, channels), out of those of all layers."""
        return vectors[self.place]


class Prepares(nn.Module):
    """A network whose dependence on time, label and condition goes through its Modulation layers alone, so that it can
    be computed beforehand: `net(x, t, label)` is `net(x, t, prepared=net.prepare(t, label))`.

    A subclass has `condition`, a Conditioning, and calls `number_vectors` at the end of its constructor.
    """

    prepares = True
    only_norms = True  # take the vectors: ops that compute in float32

    def number_vectors(self) -> None:
        """Gives every Modulation its place among the vectors of all layers, side by side in what `prepare` answers."""
        self.widths = []
        for layer in self.modulation_layers():
            layer.place = slice(len(self.widths), len(self.widths) + len(layer.widths))
            self.widths += layer.widths

    def prepare(
        self, t: Tensor, label: Tensor | None = None, condition: Tensor | None = None, *, rows: Tensor | None = None
    ) -> Tensor:
        """Every layer's vectors, (B, M), in at least float32 where norms alone take them, which would each convert
        theirs. t: (B,) float; label: (B,) integers; condition: (B, n) float; rows: (B, *), whose they are."""
        if rows is not None and (not isinstance(rows, Tensor) or not rows.ndim):
            raise TypeError(f"rows must be a tensor (B, *); got {_kind(rows)}")
        c = self.condition(t if rows is None else rows, t, label, condition)
        prepared = torch.cat([layer(c) for layer in self.modulation_layers()], dim=1)
        return prepared.to(torch.promote_types(prepared.dtype, torch.float32)) if self.only_norms else prepared

    def vectors(
        self, x: Tensor, t: Tensor, label: Tensor | None, condition: Tensor | None, prepared: Tensor | None
    ) -> tuple[Tensor, ...]:
        """The vectors of all layers for x, (B, *): those prepared, or else of t, label and condition. Cut at once:
        backward, every cut on its own would be filled up with zeros to the size of all."""
        if prepared is None:
            prepared = self.prepare(t, label, condition, rows=x)
        else:
            self.check_prepared(prepared, x)
        return prepared.split(self.widths, 1)

    def check_prepared(self, prepared: object, x: Tensor) -> None:
        """TypeError or ValueError unless it is (B, M), for the rows of x."""
        if not isinstance(prepared, Tensor) or not prepared.is_floating_point():
            raise TypeError(f"prepared must be a floating-point tensor, as `prepare` gives it; got {_kind(prepared)}")
        if prepared.shape != (len(x), sum(self.widths)):
            raise ValueError(f"prepared must have shape ({len(x)}, {sum(self.widths)}); got {tuple(prepared.shape)}")

    def modulation_layers(self) -> list[Modulation]:
        """All of them, which `prepare` reads before anything else of the network is."""
        return [module for module in self.modules() if isinstance(module, Modulation)]
