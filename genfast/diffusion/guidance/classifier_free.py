"""Guidance: the network's answer pushed away from that of a lesser one."""

import dataclasses
import numbers
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ... import ops
from ...common.checks import as_tensor, require_callable, require_number, require_pair, shown
from ...common.conditions import Label, as_conditions, with_null
from ...ops.dispatch import per_row


@dataclasses.dataclass(frozen=True, eq=False)
class Guidance:
    """F = F_u + w (F_c - F_u), with F_c the network's output under the condition and F_u without it (classifier-free
    guidance; Ho and Salimans 2022, arXiv:2207.12598), under another one (a negative condition), or of `network`.

    scale     w, a number or (N,) of them; 1 is F_c
    interval  of times t, (low, high), within which guidance acts; outside the network runs on the condition alone.
              Kynkaanniemi et al. 2024, arXiv:2404.07724
    rescale   phi in [0, 1]: F becomes phi std(F_c) / std(F) F + (1 - phi) F, standard deviations per sample. Lin et
              al. 2023, arXiv:2305.08891, section 3.4
    network   gives F_u in place of the network itself: a smaller or less trained one of the same parameterization,
              under the same condition (autoguidance). Karras et al. 2024, arXiv:2406.02507
    """

    scale: float | Sequence[float] | Tensor = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    rescale: float = 0.0
    network: Callable[..., Tensor] | None = None

    def __post_init__(self):
        require_scale("scale", self.scale)
        object.__setattr__(self, "interval", require_pair("interval", self.interval, least=0, most=1))
        object.__setattr__(self, "rescale", require_number("rescale", self.rescale, least=0, most=1))
        require_callable("network", self.network, optional=True)

    @property
    def is_none(self) -> bool:
        """Whether F is F_c throughout, by a plain scale of 1."""
        return isinstance(self.scale, numbers.Real) and self.scale == 1

    def acts(self, t: float) -> bool:
        """Whether time t is in the interval."""
        return self.interval[0] <= t <= self.interval[1]


def require_scale(name: str, scale: object) -> None:
    """An error that names the argument, unless it is a finite number or (N,) of them."""
    w = as_tensor(name, scale, torch.float64)
    if w.ndim > 1 or isinstance(scale, bool):
        raise ValueError(f"{name} must be a number or (N,) of them; got {shown(scale)}")
    if not bool(w.isfinite().all()):
        raise ValueError(f"{name} must be finite; got {shown(scale)}")


def as_guidance(guidance: "float | Tensor | Guidance | None") -> Guidance | None:
    """A Guidance as it is, or one of a scale; None for None."""
    if guidance is None or isinstance(guidance, Guidance):
        return guidance
    require_scale("guidance", guidance)  # which is what it is called here
    return Guidance(guidance)


def mixed(conditional: Tensor, unconditional: Tensor, w: Tensor, rescale: float) -> Tensor:
    """`Guidance`'s F, (B, *), in the dtype of w, which is (B,)."""
    F_c, F_u, scale = conditional.to(w.dtype), unconditional.to(w.dtype), per_row(w, conditional)
    F = torch.where(scale == 1, F_c, F_u + scale * (F_c - F_u))
    if not rescale:
        return F
    target, present = _std(F_c), _std(F)
    ratio = torch.where(present > 0, target / present, 1)  # a sample that is constant has no deviation to restore
    return torch.where(scale == 1, F_c, per_row(rescale * ratio + (1 - rescale), F) * F)


def _std(F: Tensor) -> Tensor:
    """Standard deviation of each sample, (B,), in an order of summation that depends on its size only."""
    ones = torch.ones_like(F)
    mean = ops.dot(F, ones) / F[0].numel()
    deviation = F - per_row(mean, F)
    return (ops.dot(deviation, deviation) / max(1, F[0].numel() - 1)).sqrt()


def guided_conditions(
    count: int, guidance: Guidance, label: Label, condition: Tensor | None, negative_label: Label, *, classes: int,
    **known,
) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:  # fmt: skip
    """The network's arguments and, if it is guided by itself, those that give F_u: of negative_label, or null.
    classes, known: what the model knows, as in `as_conditions`."""
    conditions = as_conditions(count, classes, label, condition, **known)
    negative = {}
    if negative_label is not None:
        negative = as_conditions(count, classes, negative_label, argument="negative_label", **known)
    if guidance.network is not None and negative_label is not None:
        raise ValueError("negative_label cannot go with guidance by a network of its own, which gives F_u")
    if guidance.network is not None or (guidance.is_none and negative_label is None):
        return conditions, None
    if label is None and condition is None:
        raise ValueError(
            "guidance needs a label or a condition: it mixes the conditional and the unconditional network"
        )
    null = with_null(conditions, classes, torch.ones(count, dtype=torch.bool, device="cpu"))
    return conditions, null | negative
