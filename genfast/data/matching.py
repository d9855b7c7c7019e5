"""Data as a model or other data want them: classes by their names, labels and conditions that it knows, a scale that
it can mean."""

from collections.abc import Collection

import torch
from torch import Tensor

from ..common.conditions import require_classes
from ..common.warn import warn_user
from .dataset import Data


def matched(samples: Data, data: Data, argument: str) -> Data:
    """The samples with their classes numbered as those of the data. Raises ValueError if their shape is another."""
    require_alike(samples, data, argument)
    return renumbered(samples, data.names, argument)


def require_alike(samples: Data, data: Data, argument: str) -> None:
    """ValueError unless the shape of a sample, and the names of its features where both have them, are the data's."""
    if samples.shape != data.shape:
        raise ValueError(f"{argument} must hold samples of shape {data.shape}, as data has; got {samples.shape}")
    if None not in (samples.columns, data.columns) and samples.columns != data.columns:
        wanted, got = (", ".join(names) for names in (data.columns, samples.columns))
        raise ValueError(f"{argument} must have the columns {wanted}, in this order; got {got}")


def for_model(data: Data, model, *, tell: Collection[str] = ("label", "condition")) -> Data:
    """The data as the model is to be told of them: labels renumbered where both have names, and without labels or
    conditions that it does not take, which is a UserWarning. Of label and condition only what `tell` names is there.
    These are asked of a model; one that lacks an attribute is told all there is:

    classes               how many; 0 for none
    names                 of the classes, or None
    unknown_labels        whether -1 is one of the labels
    condition_width       numbers in a row of condition; 0 for none, None where any will do
    require_observations  (x): raises ValueError for what cannot be its data
    units                 in which it takes and answers with samples, or None: then the data are told in theirs

    Raises ValueError for labels that are no classes of the model, names that it does not know, or labels or conditions
    that it wants and the data lack.
    """
    label, condition = (getattr(data, name) if name in tell else None for name in ("label", "condition"))
    if label is not data.label or condition is not data.condition:
        classes, names = (None, None) if label is None else (data.classes, data.names)
        data = data.replace(label=label, classes=classes, condition=condition, names=names)
    if "label" in tell:
        data = _with_known_labels(data, model)
    if "condition" in tell:
        data = _with_known_conditions(data, model)
    data = in_own_units(data, model)
    _require_observations(data, model)
    return data


def in_own_units(data: Data, model) -> Data:
    """The data in the units in which they were given, if the model answers in these; as they are, if it knows of no
    `units`."""
    return in_units(data, None) if hasattr(model, "units") else data


def in_units(data: Data, units) -> Data:
    """The data standardized by these units, or not at all."""
    return data if data.units == units else data.replace(units=units)


def for_training(data: Data, model) -> Data:
    """`for_model`, but standardized by the model's units; by those of the data while it has none, unless it says
    `learns_units = False`. With a UserWarning for data that look like 8-bit numbers, which a model of genfast's should
    see scaled: values from 0 to 255 that come within a tenth of both, or images of whole ones that go beyond 1."""
    units = getattr(model, "units", None)
    if units is None and getattr(model, "learns_units", True):
        units = data.units
    data = in_units(for_model(data, model), units)
    if units is not None:
        _require_observations(data, model)
    if hasattr(model, "classes") and _looks_8_bit(seen := data.glance()):
        warn_user(
            f"x lies from {seen.min():g} to {seen.max():g}, as 8-bit numbers do, and models are made for values of "
            "about unit scale: scale it first, e.g. x / 127.5 - 1"
        )
    return data


def require_shape_of(model, data: Data) -> None:
    """ValueError unless the samples are of the model's `shape`, if it has one."""
    shape = getattr(model, "shape", None)
    if isinstance(shape, tuple) and data.shape != shape:
        raise ValueError(f"data must hold samples of shape {shape}, that of the model; got {data.shape}")


def renumbered(samples: Data, names: tuple[str, ...] | None, argument: str) -> Data:
    """The samples with their classes numbered by their place in `names`, where both have names; without, numbers are
    taken as they are. Raises ValueError for names that are not among them."""
    if samples.names is None or names is None or samples.names == names:
        return samples
    if unknown := [name for name in samples.names if name not in names]:
        raise ValueError(
            f"{argument} must have classes among {', '.join(names)}; got {', '.join(samples.names)}, of which "
            f"{', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'} unknown"
        )
    number = torch.tensor([*(names.index(name) for name in samples.names), -1], device=samples.label.device)
    return samples.replace(label=number[samples.label], classes=len(names), names=names)  # -1 is the last


def told(data: Data, rows: Tensor) -> dict[str, Tensor]:
    """The label and condition of these rows, as far as there are any: what a model is told of them."""
    columns = {"label": data.label, "condition": data.condition}
    return {name: value[rows.to(value.device)] for name, value in columns.items() if value is not None}


def _with_known_labels(data: Data, model) -> Data:
    classes, null = getattr(model, "classes", None), getattr(model, "unknown_labels", False)
    if classes is None or (not classes and data.label is None):
        return data
    if not classes:
        warn_user(f"data have labels, which {_name(model)} without classes does not take: they are left out")
        return data.replace(label=None, classes=None, names=None)
    if data.label is None:
        raise ValueError(f"data must have labels, for the model has {classes} classes; got none")
    names = getattr(model, "names", None)
    if names is None and data.names is not None and len(data.names) > classes:
        raise ValueError(f"data must have at most {classes} classes, those of the model; got {', '.join(data.names)}")
    data = renumbered(data, names, "data")
    require_classes(data.label, classes, null)
    return data


def _with_known_conditions(data: Data, model) -> Data:
    width = getattr(model, "condition_width", None)
    if width is None:
        return data
    if not width:
        if data.condition is None:
            return data
        warn_user(f"data have conditions, which {_name(model)} does not take: they are left out")
        return data.replace(condition=None)
    if data.condition is None:
        raise ValueError(f"data must have conditions, for the model takes {width} numbers a sample; got none")
    if data.condition.shape[1:] != (width,):
        expected, got = (len(data), width), tuple(data.condition.shape)
        raise ValueError(f"condition must have shape {expected}, as the model takes it; got {got} in data")
    return data


def _require_observations(data: Data, model) -> None:
    if callable(getattr(model, "require_observations", None)):
        model.require_observations(data.glance())


def _looks_8_bit(x: Tensor) -> bool:
    low, high = (float(bound) for bound in x.aminmax())
    if low < 0 or high > 255:
        return False
    image = x.ndim > 2 and high > 1 and all(bool((part == part.round()).all()) for part in x.split(4096))
    return image or (low <= 25.5 and high >= 229.5)


def _name(model) -> str:
    return type(model).__name__
