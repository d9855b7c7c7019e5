"""What the columns of data must be: samples, labels, conditions and names of classes."""

from collections.abc import Iterable, Mapping, Set

import torch

from ..common.checks import holds_integers, require_tensor


def as_samples(x):
    x = require_tensor("x", x)
    if not x.is_floating_point():
        raise TypeError(f"x must hold floating-point samples; got {x.dtype}: scale images first, e.g. x / 127.5 - 1")
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(f"x must have at least one sample, of shape (N, *); got shape {tuple(x.shape)}")
    return in_float32("x", x, torch.isfinite, "NaN or infinity")


def as_labels(label, n):
    label = require_tensor("label", label)
    if not holds_integers(label):
        raise TypeError(f"label must hold integers; got {label.dtype}")
    if label.shape != (n,):
        raise ValueError(f"label must have shape ({n},), one per sample; got {tuple(label.shape)}")
    label = _signed("label", label).to(torch.int64).contiguous()
    if label.min() < -1:
        raise ValueError(f"label must hold values of at least -1, which is unknown; got {int(label.min())}")
    return label


def as_conditions(condition, n):
    condition = require_tensor("condition", condition)
    if condition.is_complex():
        raise TypeError(f"condition must hold real numbers; got {condition.dtype}")
    if condition.ndim < 1 or len(condition) != n or condition.numel() == 0:
        raise ValueError(f"condition must have shape ({n}, *), one row per sample; got {tuple(condition.shape)}")
    condition = condition[:, None] if condition.ndim == 1 else condition
    return in_float32("condition", condition, lambda rows: ~rows.isinf(), "infinity")


def as_names(names):
    """Names of classes as a tuple; TypeError for what is no sequence of strings, as a set, which has no order."""
    unordered = isinstance(names, str | Set | Mapping)
    given = tuple(names) if isinstance(names, Iterable) and not unordered and getattr(names, "ndim", 1) else None
    if given is None or not all(isinstance(name, str) for name in given):
        raise TypeError(f"names must be a sequence of strings; got {names!r}")
    names = tuple(map(str, given))  # no NumPy's, which JSON has no word for
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"names must be distinct; got more than one {', '.join(repeated)}")
    return names


def in_float32(name, values, allowed, others):
    """values: (N, *) as float32 and contiguous, all of them `allowed`; an error calls the `others` by that name."""
    values = _signed(name, values.detach())
    held = _contiguous(values.to(torch.float32))
    if not (fine := allowed(held)).all():
        bad = (~fine).flatten(1).any(1).nonzero().flatten()
        overflow = bool(allowed(values[~fine].double()).any())
        got = "infinity in float32, which ends at 3.4e38," if overflow else others
        raise ValueError(f"{name} must hold finite values; got {got} in {len(bad)} samples, the first is {bad[0]}")
    if values.dtype in (torch.float64, torch.int32, torch.int64):
        _require_spread(name, values.flatten(1), held.flatten(1))
    return held


def _signed(name, values):
    """Wide unsigned integers, with which torch computes little, as int64; all else as it is."""
    if values.dtype not in (torch.uint16, torch.uint32, torch.uint64):
        return values
    numbers = values.to(torch.int64)
    if (numbers < 0).any():  # they have wrapped
        raise ValueError(f"{name} must hold values below 2^63; got a larger one")
    return numbers


def _contiguous(values):
    """The tensor itself, or a contiguous copy of one of other strides, which kernels do not take."""
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(values.ndim)
    return values if last and values.is_contiguous(memory_format=last) else values.contiguous()


def _require_spread(name, values, held):
    """ValueError if rounding `values: (N, D)` to `held` costs a feature more than a hundredth of its spread.

    A feature of float64 that varies by less than 2^-47 of its own size is held to be constant, and what varies in it to
    be rounding, unless all features are such; and so is one that varies by less than 2^-100 of the size of all.
    """
    given, whole, missing = values, not values.is_floating_point(), values.isnan()
    if missing.any():
        values = torch.where(missing, values.nanmean(0).nan_to_num(), values)
        held = torch.where(missing, values, held)
    size = torch.maximum(values.amax(0).double(), -values.amin(0).double())
    if whole:  # beyond 2^53 float64 holds their differences only
        values, held = (values - given[:1]).double(), held.double() - given[:1].double()
    spread = values.std(0, correction=0)
    rounding, negligible = 0.0 if whole else 2.0**-47 * size, 2.0**-100 * size.max()
    varies = (spread > rounding) & (spread > negligible)
    if not varies.any():
        varies = spread > negligible
    suspects = (varies & ((2.0**-24 * size).clamp(min=2.0**-150) > 0.01 * spread)).nonzero().flatten()  # half an ulp
    if not len(suspects):
        return
    error = (held[:, suspects].double() - values[:, suspects]).std(0, correction=0)
    lost = suspects[error > 0.01 * spread[suspects]]
    if len(lost):
        first = int(lost[0])
        near, by, tiny = float(given[:, first].double().nanmean()), float(spread[first]), bool(size[first] < 2.0**-100)
        remedy = f"subtract one of them, {name} - {name}[0]" if whole else f"subtract the mean, {name} - {name}.mean(0)"
        raise ValueError(
            f"{name} must vary by what float32 can hold; got {len(lost)} of {len(spread)} features that rounding would "
            f"change by more than a hundredth of their spread, the first, {first}, near {near:.9g} with a standard "
            f"deviation of {by:.2g}: {f'divide it by {by:.2g}' if tiny else remedy} first"
        )
