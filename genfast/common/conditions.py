"""What a model tells its network of a sample beside time: keyword arguments `label` and `condition`, a row a sample.

Null is the label `classes` and a row of NaN; networks of `nn` know them by those (`nn.conditioning.Conditions`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .checks import holds_integers

Label = int | Sequence[int] | Tensor | None


def as_conditions(
    count: int, classes: int, label: Label = None, condition: Tensor | None = None, *, null: bool = True
) -> dict[str, Tensor]:
    """The arguments for `count` rows, on the CPU. label: one for all, or (count,) of them; None is null where there are
    classes.  condition: (count, *) float, or (1, *) for all; None is left out, which is null too.  null: whether the
    network knows a null label; without, each row needs a class.
    Raises ValueError naming the argument."""
    conditions = {}
    if classes and label is None and not null:
        raise ValueError(f"label is needed: the model has {classes} classes; got None")
    if classes:
        conditions["label"] = torch.full((count,), classes) if label is None else _labels(label, count, classes, null)
    elif label is not None:
        raise ValueError("label was given to a model without classes")
    if condition is not None:
        condition = torch.as_tensor(condition).cpu()
        if not condition.is_floating_point() or condition.ndim < 2 or len(condition) not in (1, count):
            got = f"{condition.dtype} {tuple(condition.shape)}"
            raise ValueError(f"condition must be floating point, ({count}, *) or (1, *) for all; got {got}")
        conditions["condition"] = condition.expand(count, *condition.shape[1:])
    return conditions


def with_null(conditions: dict[str, Tensor], classes: int, which: Tensor) -> dict[str, Tensor]:
    """`conditions` with null in the rows that `which` names, (B,) bool."""
    null = {"label": classes, "condition": torch.nan}
    return {name: torch.where(which.reshape(-1, *[1] * (v.ndim - 1)), null[name], v) for name, v in conditions.items()}


def label_condition(batch: dict[str, Tensor | None], classes: int) -> dict[str, Tensor]:
    """{"label"} of a training batch, {} without classes, for networks that know no null label.

    Raises ValueError where it is missing, holds no integers or, on the CPU, no class: to look at it on a GPU would be
    to wait for it.
    """
    if not classes:
        return {}
    label = batch.get("label")
    if label is None:
        raise ValueError(f"label is needed: the model has {classes} classes; got a batch without")
    if not holds_integers(label):
        raise ValueError(f"label must hold integers; got {label.dtype}")
    label = label.long()
    if label.device.type == "cpu" and len(label) and not 0 <= int(label.min()) <= int(label.max()) < classes:
        raise ValueError(f"label must lie in [0, {classes}); got {label.tolist()[:9]}")
    return {"label": label}


def _labels(label: Label, count: int, classes: int, null: bool) -> Tensor:
    try:
        label = torch.as_tensor(label).cpu()
    except (TypeError, ValueError, RuntimeError):  # words, objects, lists of unequal length
        raise ValueError(f"label must be one integer or ({count},) of them; got {label!r}") from None
    label = label.expand(count) if label.ndim == 0 else label
    if label.shape != (count,) or not holds_integers(label):
        raise ValueError(f"label must be one integer or ({count},) of them; got {label.dtype} {tuple(label.shape)}")
    label = label.long()
    if count and not 0 <= int(label.min()) <= int(label.max()) < classes + null:
        most = f"{classes}] ({classes} is none)" if null else f"{classes})"
        raise ValueError(f"label must lie in [0, {most}; got {label.tolist()[:9]}")
    return label
