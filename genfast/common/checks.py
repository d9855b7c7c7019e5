"""What an argument must be, in one wording everywhere: "NAME must be ...; got ...".

A check answers with the value as the rest of the code wants it, or raises a ValueError that names the argument.
"""

import math
import numbers
from collections.abc import Iterable

import numpy as np
import torch


def is_integer(value: object) -> bool:
    """Whether value is an integer: Python's, NumPy's, or a tensor or array of no dimensions that holds one; no bool."""
    if isinstance(value, int):  # first, since ops ask it at every call
        return not isinstance(value, bool)
    if isinstance(value, torch.Tensor):
        return value.ndim == 0 and holds_integers(value)
    if isinstance(value, np.ndarray):
        return value.ndim == 0 and np.issubdtype(value.dtype, np.integer)
    return isinstance(value, numbers.Integral)


def holds_integers(tensor: torch.Tensor) -> bool:
    """Whether the tensor's dtype is an integer one, of any width; bool is not."""
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def require_integer(name: str, value: object, least: int | None = None, most: int | None = None) -> int:
    """value as an int, in [least, most]; see `is_integer` for what counts as one."""
    if is_integer(value):
        number = int(value)
        if (least is None or number >= least) and (most is None or number <= most):
            return number
    wanted = "an integer"
    if least is not None:
        wanted += f" of at least {least}" if most is None else f" from {least} to {_power(most)}"
    elif most is not None:
        wanted += f" of at most {_power(most)}"
    raise ValueError(f"{name} must be {wanted}; got {value!r}")


def require_integers(least: int, **values: object) -> list[int]:
    """`require_integer` of each."""
    return [require_integer(name, value, least) for name, value in values.items()]


def require_number(
    name: str, value: object, *, least: float | None = None, above: float | None = None, most: float | None = None,
    below: float | None = None,
) -> float:  # fmt: skip
    """value as a float, finite and within the bounds: Python's, NumPy's, or a tensor or array of no dimensions."""
    if isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, numbers.Real) and not isinstance(value, bool) and _is_finite(value):
        within = (least is None or value >= least) and (above is None or value > above)
        if within and (most is None or value <= most) and (below is None or value < below):
            return float(value)
    low = None if least is None and above is None else f"[{least:g}" if above is None else f"({above:g}"
    high = None if most is None and below is None else f"{most:g}]" if below is None else f"{below:g})"
    if low is not None and high is not None:
        wanted = f"a number in {low}, {high}"
    elif high is not None:
        wanted = f"a finite number {f'of at most {most:g}' if below is None else f'below {below:g}'}"
    elif low is not None:
        wanted = f"a finite number {f'of at least {least:g}' if above is None else f'above {above:g}'}"
    else:
        wanted = "a finite number"
    raise ValueError(f"{name} must be {wanted}; got {value!r}")


def _is_finite(value: numbers.Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def require_choice(name: str, value: object, choices: Iterable) -> object:
    """value, one of the choices; an integer of any kind stands for Python's."""
    choices = tuple(choices)
    for choice in choices:
        alike = type(value) is type(choice) or (isinstance(value, str) and isinstance(choice, str))
        if alike and value == choice:
            return choice
    if is_integer(value) and type(value) is not int:
        return require_choice(name, int(value), choices)
    raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}; got {value!r}")


def require_bool(name: str, value: object) -> bool:
    """value, True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False; got {value!r}")
    return bool(value)


def require_shape(name: str, value: object) -> tuple[int, ...]:
    """The shape of something: a positive integer, or a sequence of one or more."""
    lengths = (value,) if is_integer(value) else value
    if isinstance(lengths, str) or not isinstance(lengths, Iterable) or getattr(lengths, "ndim", 1) == 0:
        lengths = ()
    lengths = tuple(lengths)
    if not lengths or not all(is_integer(length) and length >= 1 for length in lengths):
        raise ValueError(f"{name} must be a positive integer or a sequence of them; got {value!r}")
    return tuple(int(length) for length in lengths)


def require_tensor(name: str, value: object) -> torch.Tensor:
    """value, a tensor or array that holds all its numbers, as a tensor, where it lies: arrays on the CPU, whatever
    torch's default device is. Shared, but for arrays of another byte order or of strides that torch does not have.
    Raises TypeError for what is masked, sparse, nested, quantized, on the meta device, or no numbers."""
    if isinstance(value, np.ma.MaskedArray) or torch.masked.is_masked_tensor(value):
        raise TypeError(f"{name} must be an array without a mask; got a masked one")
    if isinstance(value, np.ndarray):
        native = value.astype(value.dtype.newbyteorder("="), copy=False)
        if any(stride < 0 or stride % native.itemsize for stride in native.strides):
            native = native.copy()
        try:
            return torch.from_numpy(native)
        except TypeError as error:  # text, objects, dates, numbers wider than 64 bits
            raise TypeError(f"{name} must hold numbers of a type that torch has; got {value.dtype}") from error
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a tensor or an array; got {type(value).__name__}")
    kinds = {"nested": value.is_nested, "meta": value.is_meta, "quantized": value.is_quantized}
    kinds |= {str(value.layout): value.layout != torch.strided}
    if found := [kind for kind, is_one in kinds.items() if is_one]:
        raise TypeError(f"{name} must be a dense tensor that holds its values; got a {found[0]} one")
    return value


def as_tensor(name: str, value: object, dtype: torch.dtype | None = None) -> torch.Tensor:
    """`require_tensor`, in `dtype`, which also takes numbers and nests of lists of them, and puts them on the CPU;
    errors of torch for what is none of these."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return require_tensor(name, value).to(dtype=dtype)
    return torch.as_tensor(value, dtype=dtype, device="cpu")


def _power(number: int) -> str:
    """The number, in powers of two where it is a large one: 2^63 - 1."""
    large = number + 1 if number % 2 else number
    if large >= 2**24 and large.bit_count() == 1:
        return f"2^{large.bit_length() - 1}" + (" - 1" if number % 2 else "")
    return str(number)
