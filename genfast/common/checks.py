"""What an argument must be, in one wording everywhere: "NAME must be ...; got ...".

A check answers with the value as the rest of the code wants it, or raises a ValueError, or a TypeError for what is of
another kind, that names the argument.
"""

import contextlib
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence, Set

import numpy as np
import torch

LARGEST = 2**63 - 1  # of the integers that torch has
ROWS = 2**24  # the most in one call of a network
SHOWN = 200  # characters of a value in an error


def shown(value: object) -> str:
    """The value as an error shows it: in one line, and not all of a long one."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def is_integer(value: object) -> bool:
    """Whether value is an integer: Python's, NumPy's, or a tensor or array of no dimensions that holds one; no bool."""
    if isinstance(value, int):  # first, since ops ask it at every call
        return not isinstance(value, bool)
    if isinstance(value, torch.Tensor):
        return value.ndim == 0 and holds_integers(value) and not value.is_meta
    if isinstance(value, np.ndarray):
        return value.ndim == 0 and np.issubdtype(value.dtype, np.integer)
    return isinstance(value, numbers.Integral)


def holds_integers(tensor: torch.Tensor) -> bool:
    """Whether the tensor's dtype is an integer one, of any width; bool is not."""
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def require_integer(name: str, value: object, least: int | None = None, most: int | None = None) -> int:
    """value as an int, in [least, most], by default up to 2^63 - 1; see `is_integer` for what counts as one."""
    if is_integer(value):
        number = int(value)
        most = LARGEST if most is None and number > LARGEST else most
        if (least is None or number >= least) and (most is None or number <= most):
            return number
    wanted = "an integer"
    if least is not None:
        wanted += f" of at least {least}" if most is None else f" from {least} to {_power(most)}"
    elif most is not None:
        wanted += f" of at most {_power(most)}"
    raise ValueError(f"{name} must be {wanted}; got {shown(value)}")


def require_count(name: str, value: object, least: int, most: int) -> int:
    """`require_integer`, of which the upper bound is one that nobody meets by design: only who is beyond it hears of
    it."""
    beyond = is_integer(value) and int(value) > most
    return require_integer(name, value, least, most if beyond else None)


def require_chunk(value: object) -> int:
    """The argument `chunk`: rows of one call of a network, which are in memory at once."""
    return require_count("chunk", value, 1, ROWS)


def require_integers(least: int, **values: object) -> list[int]:
    """`require_integer` of each."""
    return [require_integer(name, value, least) for name, value in values.items()]


def require_number(
    name: str, value: object, *, least: float | None = None, above: float | None = None, most: float | None = None,
    below: float | None = None,
) -> float:  # fmt: skip
    """value as a float, finite and within the bounds: Python's, NumPy's, or a tensor or array of no dimensions."""
    if isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 0 and getattr(value, "is_meta", False) is False:
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
    raise ValueError(f"{name} must be {wanted}; got {shown(value)}")


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
    raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}; got {shown(value)}")


def require_dtype(name: str, value: object) -> torch.dtype:
    """value, a dtype of torch."""
    if not isinstance(value, torch.dtype):
        raise TypeError(f"{name} must be a torch.dtype; got {shown(value)}")
    return value


def require_names(name: str, value: object) -> tuple[str, ...]:
    """value, a sequence of strings, as a tuple; a set, which has no order, is none."""
    unordered = isinstance(value, str | bytes | Mapping | Set) or getattr(value, "ndim", 1) == 0
    names = tuple(value) if isinstance(value, Iterable) and not unordered else (None,)
    if not all(isinstance(entry, str) for entry in names):
        raise TypeError(f"{name} must be a sequence of names; got {shown(value)}")
    return tuple(map(str, names))  # no NumPy's, which JSON has no word for


def require_callable(name: str, value: object, *, optional: bool = False) -> object:
    """value, something to call or, if it is optional, None."""
    if not callable(value) and not (optional and value is None):
        wanted = "callable or None" if optional else "callable"
        raise TypeError(f"{name} must be {wanted}; got {type(value).__name__}")
    return value


def require_bool(name: str, value: object) -> bool:
    """value, True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False; got {shown(value)}")
    return bool(value)


def require_shape(name: str, value: object) -> tuple[int, ...]:
    """The shape of something: a positive integer, or a sequence of one or more."""
    lengths = (value,) if is_integer(value) else value
    other = isinstance(lengths, str | bytes | Mapping | Set) or not isinstance(lengths, Iterable)
    if other or getattr(lengths, "ndim", 1) == 0:
        lengths = ()
    lengths = tuple(lengths)
    if not lengths or not all(is_integer(length) and length >= 1 for length in lengths):
        raise ValueError(f"{name} must be a positive integer or a sequence of them; got {shown(value)}")
    lengths = tuple(int(length) for length in lengths)
    if math.prod(lengths) > LARGEST:
        raise ValueError(f"{name} must have fewer than 2^63 elements; got {shown(lengths)}")
    return lengths


def require_device(name: str, value: object, *, there: bool = True) -> torch.device:
    """value, a device or its name, as a device; there: that torch can use here."""
    if isinstance(value, str | int | torch.device) and not isinstance(value, bool):
        # torch knows names of devices that it was not built for.
        with contextlib.suppress(RuntimeError, ValueError, AssertionError, ImportError):
            if there:
                torch.empty(0, device=value)
            return torch.device(value)
    raise ValueError(f"{name} must be a device that torch has here, such as cpu; got {shown(value)}")


def require_pair(
    name: str, value: object, *, least: float = -math.inf, most: float = math.inf, infinite: bool = False,
    ordered: bool = True,
) -> tuple[float, float]:  # fmt: skip
    """value, (low, high) with least <= low <= high <= most, as floats. infinite: whether they may be so.  ordered:
    whether they must come in that order."""
    pair = value if isinstance(value, tuple | list) and len(value) == 2 else (None, None)
    real = all(isinstance(bound, numbers.Real) and not isinstance(bound, bool) for bound in pair)
    if real and all(_is_finite(bound) or (infinite and bound in (-math.inf, math.inf)) for bound in pair):
        low, high = map(float, pair)
        if not ordered or least <= low <= high <= most:
            return low, high
    below, above = "" if least == -math.inf else f"{least:g} <= ", "" if most == math.inf else f" <= {most:g}"
    wanted = f"(low, high) with {below}low <= high{above}" if ordered else "a pair of finite numbers"
    raise ValueError(f"{name} must be {wanted}; got {shown(value)}")


def require_tensor(name: str, value: object, *, values: bool = True) -> torch.Tensor:
    """value, a tensor or array that holds all its numbers, as a tensor, where it lies: arrays on the CPU, whatever
    torch's default device is. Shared, but for arrays of another byte order or of strides that torch does not have.
    Raises TypeError for what is masked, sparse, nested, quantized, on the meta device, or no numbers.
    values: whether they will be looked at; else the tensor may be on the meta device."""
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
    kinds = {"nested": value.is_nested, "meta": value.is_meta and values, "quantized": value.is_quantized}
    kinds |= {str(value.layout): value.layout != torch.strided}
    if found := [kind for kind, is_one in kinds.items() if is_one]:
        raise TypeError(f"{name} must be a dense tensor that holds its values; got a {found[0]} one")
    return value


def as_tensor(name: str, value: object, dtype: torch.dtype | None = None) -> torch.Tensor:
    """`require_tensor`, in `dtype`, which also takes numbers and nests of lists of them, and puts them on the CPU; of
    these, those that are not integers are float32 by default, whatever torch's default dtype is."""
    if not isinstance(value, torch.Tensor) and hasattr(value, "__array__"):
        value = np.asarray(value) if not isinstance(value, np.ndarray) else value
    if isinstance(value, torch.Tensor | np.ndarray):
        tensor = require_tensor(name, value)
        if tensor.is_complex() and dtype is not None and not dtype.is_complex:
            raise TypeError(f"{name} must hold real numbers; got {tensor.dtype}")
        return tensor.to(dtype=dtype)
    tensor = None
    if isinstance(value, numbers.Number | Sequence) and not isinstance(value, str | bytes):
        with contextlib.suppress(TypeError, ValueError, RuntimeError, OverflowError):  # other things, uneven lengths
            tensor = torch.as_tensor(value, dtype=dtype, device="cpu")
    if tensor is None:
        raise TypeError(f"{name} must be a tensor, an array, or numbers in lists of equal length; got {shown(value)}")
    if dtype is None and tensor.is_floating_point():
        tensor = torch.as_tensor(value, dtype=torch.float32, device="cpu")
    return tensor


def require_floating(name: str, value: object, *, values: bool = True) -> torch.Tensor:
    """`require_tensor` of floating-point numbers; TypeError for others, and for float8, which torch only stores."""
    tensor = require_tensor(name, value, values=values)
    if not tensor.is_floating_point() or tensor.dtype.itemsize == 1:
        raise TypeError(f"{name} must hold floating-point numbers; got {tensor.dtype}")
    return tensor


def require_samples(
    name: str, value: object, shape: tuple[int, ...] | None = None, *, batch: str | None = "N", least: int = 0
) -> torch.Tensor:
    """`require_floating` of (N, *shape), N at least `least`, any shape for None; of one sample, (*shape), where there
    is no name of a batch dimension."""
    tensor, first = require_floating(name, value, values=False), int(batch is not None)
    fits = tensor.ndim > first and (not first or len(tensor) >= least)
    if not fits or (shape is not None and tuple(tensor.shape[first:]) != shape):
        wanted = ", ".join([batch] * first + (["*"] if shape is None else [*map(str, shape)]))
        more = f", {batch} at least {least}" if least else ""
        raise ValueError(f"{name} must have shape ({wanted}){more}; got {tuple(tensor.shape)}")
    return tensor


def _power(number: int) -> str:
    """The number, in powers of two where it is a large one: 2^63 - 1."""
    large = number + 1 if number % 2 else number
    if large >= 2**24 and large.bit_count() == 1:
        return f"2^{large.bit_length() - 1}" + (" - 1" if number % 2 else "")
    return str(number)
