"""What a model tells its network of a sample beside time: keyword arguments `label` and `condition`, a row a sample.

To a user a label is a number in [0, classes), a class name, or -1: unknown. To a network, null is the label `classes`
and a row of NaN; networks of `nn` know them by those (`nn.conditioning.Conditions`).
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from .checks import as_tensor, holds_integers, require_integer, require_samples, require_tensor, shown
from .precision import readable, weights_dtype
from .state import unwrapped

Label = int | str | Sequence[int] | Sequence[str] | Tensor | None


def as_conditions(
    count: int,
    classes: int,
    label: Label = None,
    condition: Tensor | None = None,
    *,
    null: bool = True,
    names: tuple[str, ...] | None = None,
    width: int | None = None,
    argument: str = "label",
) -> dict[str, Tensor]:
    """The arguments for `count` rows, on the CPU. label: one for all, or (count,) of them, numbers or `names`; None is
    null where there are classes, and so is -1.  condition: (count, *) numbers, or (1, *) for all, or (count,), which is
    (count, 1); NaN where one is missing; None is left out, which is null too.  null: whether the network knows a null
    label; without, each row needs a class.  width: of the condition, see `condition_width`.
    Raises ValueError naming the argument, and TypeError for a masked or sparse one and for an array of no numbers."""
    conditions = {}
    if classes and label is None and not null:
        raise ValueError(f"{argument} is needed: the model has {classes} classes; got None")
    if classes:
        given = -1 if label is None else numbered(label, names, argument)
        given = _labels(given, count, argument)
        require_classes(given, classes, null, argument)
        conditions["label"] = torch.where(given < 0, classes, given)
    elif label is not None:
        raise ValueError(f"{argument} was given to a model without classes")
    if condition is not None:
        condition = as_rows("condition", condition, count)
        if width == 0:
            raise ValueError("condition was given to a model whose networks take none")
        if width is not None and condition.shape[1:] != (width,):
            raise ValueError(f"condition must have shape ({count}, {width}); got {tuple(condition.shape)}")
        conditions["condition"] = condition.expand(count, *condition.shape[1:])
    return conditions


def known_to(model) -> dict:
    """What conditions a model knows: the rest of the arguments of `as_conditions`."""
    null = getattr(model, "unknown_labels", False)
    return {"classes": model.classes, "names": model.names, "width": model.condition_width, "null": null}


def numbered(label: Label, names: tuple[str, ...] | None, argument: str = "label") -> Label:
    """The label with numbers for names; one of numbers as it is. A string is always a name, "3" the class named "3"."""
    many = isinstance(label, list | tuple) or (isinstance(label, np.ndarray) and label.dtype.kind in "UO")
    given = list(label) if many and getattr(label, "ndim", 1) else [label]
    if not any(isinstance(entry, str) for entry in given):
        return label
    if names is None:
        raise ValueError(
            f"{argument} must be a number, for the classes of this model have no names; got {shown(label)}"
        )
    if unknown := [entry for entry in given if not isinstance(entry, str) or entry not in names]:
        raise ValueError(f"{argument} must be among {', '.join(names)}; got {', '.join(map(repr, unknown[:9]))}")
    numbers = [names.index(entry) for entry in given]
    return numbers if many else numbers[0]


def require_classes(label: Tensor, classes: int, null: bool, argument: str = "label") -> None:
    """ValueError unless the labels lie in [0, classes) or, where null is one, are -1."""
    bad = label[(label < -null) | (label >= classes)]
    if len(bad):
        found = bad.unique().tolist()
        values = ", ".join(map(str, found[:9])) + (", ..." if len(found) > 9 else "")
        wanted = f"[0, {classes}){', or be -1 for unknown' if null else ''}"
        raise ValueError(f"{argument} must lie in {wanted}; got {values} in {len(bad)} of {len(label)} samples")


def as_rows(name: str, value, count: int) -> Tensor:
    """A condition as floating-point rows on the CPU, (count, *) or (1, *); (count,) becomes (count, 1).
    NaN is a missing value. Raises ValueError naming it for another shape, or infinity; TypeError: `require_tensor`."""
    listed = not isinstance(value, Tensor | np.ndarray)
    rows = _on_cpu(name, value, f"hold numbers, ({count}, *) or (1, *) for all", torch.float64 if listed else None)
    narrow = listed or not (rows.is_floating_point() or rows.is_complex())
    rows = rows.double() if narrow else rows
    rows = rows[:, None] if rows.ndim == 1 else rows
    if rows.is_complex() or rows.ndim < 2 or len(rows) not in (1, count):
        raise ValueError(
            f"{name} must hold real numbers, ({count}, *) or (1, *) for all; got {rows.dtype} {tuple(rows.shape)}"
        )
    _require_no_infinity(name, rows)
    return rows.float() if narrow else rows


def _require_no_infinity(name: str, rows: Tensor) -> None:
    """ValueError for a number that is infinite in float32, the precision of conditions."""
    infinite = rows.float().isinf()
    if bool(infinite.any()):
        row, value = int(infinite.flatten(1).any(1).nonzero()[0]), float(rows[infinite][0])
        got = f"{value:g}, infinity in float32," if math.isfinite(value) else "infinity"
        raise ValueError(f"{name} must be finite, or NaN where it is missing; got {got} in row {row}")


def with_null(conditions: dict[str, Tensor], classes: int, which: Tensor) -> dict[str, Tensor]:
    """`conditions` with null in the rows that `which` names, (B,) bool."""
    null = {"label": classes, "condition": torch.nan}
    return {name: torch.where(which.reshape(-1, *[1] * (v.ndim - 1)), null[name], v) for name, v in conditions.items()}


def batch_samples(batch: dict[str, Tensor | None], shape: tuple[int, ...] | None = None, least: int = 0) -> Tensor:
    """x of a training batch, (B, *shape) floating point, B at least `least`; shape: None for any. TypeError or
    ValueError for anything else."""
    if not isinstance(batch, Mapping) or "x" not in batch:
        got = list(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise TypeError(f"batch must be a dict with x, and label and condition where there are any; got {got}")
    return require_samples("x", batch["x"], shape, batch="B", least=least)


def batch_conditions(
    batch: dict[str, Tensor | None], classes: int, *networks: Callable, null: bool
) -> dict[str, Tensor]:
    """{"label", "condition"} of a training batch, without label where there are no classes, and without what it lacks.

    null: whether the networks know a null label, for -1 and for a batch without labels.
    A condition (B,) becomes (B, 1).
    Raises ValueError for a condition that none of them takes, and where the label is missing or holds no integers; on
    the CPU, too, for what is no class and for an infinite condition: to look at them on a GPU would be to wait for it.
    """
    label, condition = batch.get("label") if classes else None, batch.get("condition")
    if condition is not None and condition_width(*networks) == 0:
        raise ValueError("condition was given to a model whose networks take none")
    if condition is not None and (not isinstance(condition, Tensor) or condition.is_complex()):
        kind = condition.dtype if isinstance(condition, Tensor) else type(condition).__name__
        raise TypeError(f"condition must be a tensor of real numbers, a row a sample; got {kind}")
    if condition is not None and condition.shape[:1] != batch["x"].shape[:1]:
        shape = f"({len(batch['x'])}, *)"
        raise ValueError(f"condition must have shape {shape}, a row a sample; got {tuple(condition.shape)}")
    if condition is not None and condition.ndim == 1:
        condition = condition[:, None]
    if condition is not None and readable(condition):
        _require_no_infinity("condition", condition)
    conditions = {} if condition is None else {"condition": condition}
    if label is None:
        if classes and not null:
            raise ValueError(f"label is needed: the model has {classes} classes; got a batch without")
        return conditions
    if not isinstance(label, Tensor) or not holds_integers(label):
        kind = label.dtype if isinstance(label, Tensor) else type(label).__name__
        raise ValueError(f"label must hold integers; got {kind}")
    if label.shape != batch["x"].shape[:1]:
        raise ValueError(f"label must have shape ({len(batch['x'])},), one a sample; got {tuple(label.shape)}")
    label = label.long()
    if readable(label):
        require_classes(label, classes, null)
    return {"label": torch.where(label < 0, classes, label) if null else label} | conditions


def condition_width(*networks: Callable) -> int | None:
    """How many numbers a row of `condition` has for networks that belong together: that of their `config`; 0 where none
    of them takes the argument; None where it is not known. Raises ValueError where they differ: no row would do."""
    widths = [_width(network) for network in networks]
    if len(different := {width for width in widths if width}) > 1:
        got = " and ".join(map(str, sorted(different)))
        raise ValueError(f"condition must have one width for all networks of a model; got networks of {got}")
    return max((width for width in widths if width), default=None if None in widths else 0)


def known_classes(*networks: Callable) -> int:
    """How many classes networks that belong together know, as far as their `config` says; 0 where it does not."""
    configs = (_config(network) for network in networks)
    return max((config.get("classes") or 0 for config in configs), default=0)


def model_classes(classes: int | None, *networks: Callable) -> int:
    """How many classes a model of these networks has: `classes`, or as many as they know. Raises ValueError for more
    than that."""
    known = known_classes(*networks)
    classes = require_integer("classes", known if classes is None else classes, 0)
    if classes > known and any("classes" in _config(network) for network in networks):
        raise ValueError(f"classes must be at most {known}, as many as the networks know; got {classes}")
    return classes


def taken(network: Callable, conditions: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of the conditions, all that the network takes, in the dtype of its weights: those of a pair may take different
    ones. `key` among them is for networks that want one."""
    if "key" in conditions and not wants_key(network):
        conditions = {name: value for name, value in conditions.items() if name != "key"}
    condition = conditions.get("condition")
    if condition is None:
        return conditions
    if _width(network) == 0:
        return {name: value for name, value in conditions.items() if name != "condition"}
    dtype = weights_dtype(network)
    return conditions | {"condition": as_tensor("condition", condition, dtype)} if dtype else conditions


def wants_key(network: Callable) -> bool:
    """Whether the network is to be given `key`, the (B, 2) of `ops.make_key`, by a loss: its dropout is a function of
    it. It says so by a true attribute of this name."""
    return bool(getattr(unwrapped(network), "wants_key", False))


def takes(function: Callable, name: str) -> bool:
    """Whether the function can be called with an argument of this name, as far as it says."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return True
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _width(network: Callable) -> int | None:
    network, config = unwrapped(network), _config(network)
    if "condition" in config:
        return config["condition"]
    return None if takes(getattr(network, "forward", network), "condition") else 0


def _config(network: Callable) -> dict:
    """The arguments of a network, also of one that torch wraps; {} where it does not say them."""
    config = getattr(unwrapped(network), "config", None)
    return config if isinstance(config, dict) else {}


def _labels(label: Label, count: int, argument: str) -> Tensor:
    wanted = f"be one integer or name, or ({count},) of them"
    label = _on_cpu(argument, label, wanted)
    label = label.expand(count) if label.ndim == 0 else label
    if label.shape != (count,) or not (holds_integers(label) or not count):
        raise ValueError(f"{argument} must {wanted}; got {label.dtype} {tuple(label.shape)}")
    return label.long()


def _on_cpu(name: str, value, wanted: str, dtype: torch.dtype | None = None) -> Tensor:
    """A number, a nest of lists of them, an array or a tensor, as a tensor."""
    if isinstance(value, Tensor | np.ndarray):
        return require_tensor(name, value).cpu()
    try:
        return as_tensor(name, value, dtype)
    except TypeError:
        raise ValueError(f"{name} must {wanted}; got {shown(value)}") from None
