"""What a model holds, by name: without the wrappers of torch, held against what it should be, and whether finite."""

from collections.abc import Iterable

from torch import Tensor, nn

# Classes of torch that hold one network and answer in its place, and the name that it has in them.
WRAPPERS = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}


def _inside(module: nn.Module) -> str | None:
    """The name of what a wrapper holds; None for any other module."""
    own = (kind.__name__ for kind in type(module).__mro__ if kind.__module__.startswith("torch."))
    return next((WRAPPERS[name] for name in own if name in WRAPPERS), None)


def unwrapped(value: object) -> object:
    """The network in `torch.compile(net)`, DataParallel or DistributedDataParallel, however deep; others themselves."""
    while isinstance(value, nn.Module) and (name := _inside(value)) is not None:
        value = value.get_submodule(name)
    return value


def own_names(model: object, names: Iterable[str]) -> dict[str, str]:
    """Each of the names of `model.state_dict()` -> what it would be without wrappers."""
    if not isinstance(model, nn.Module):
        return {name: name for name in names}
    modules = model.named_modules(remove_duplicate=False)
    wrapped = {f"{path}.{inside}".removeprefix(".") for path, module in modules if (inside := _inside(module))}

    def own(name: str) -> str:
        parts = name.split(".")
        return ".".join(part for i, part in enumerate(parts) if ".".join(parts[: i + 1]) not in wrapped)

    return {name: own(name) for name in names}


def misfits(found: dict[str, Tensor], own: dict[str, Tensor]) -> str:
    """In words, what keeps the tensors `found` from being the values of those in `own`; "" where all fit.

    Floating-point ones are of any precision, others of one dtype.
    """
    both = [name for name in own if name in found]
    pairs = [(name, found[name], own[name]) for name in both]
    shapes = [f"{name} of shape {_size(a)} instead of {_size(b)}" for name, a, b in pairs if a.shape != b.shape]
    dtypes = [f"{name} of {_dtype(a)} instead of {_dtype(b)}" for name, a, b in pairs if not _convertible(a, b)]
    kinds = {
        "missing": sorted(own.keys() - found.keys()),
        "unexpected": sorted(found.keys() - own.keys()),
        "misshapen": shapes,
        "of another kind": dtypes,
    }
    return "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in kinds.items() if names)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _size(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _convertible(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype or (a.is_floating_point() and b.is_floating_point())


def not_finite(state: dict[str, Tensor], parameters: Iterable[str]) -> str:
    """In words, the first tensor that holds what it must not: "" where there is none.

    Parameters must be finite. Others, buffers, may hold infinities, as masks do, but no NaN.
    """
    parameters = set(parameters)
    for name, value in state.items():
        if not (value.is_floating_point() or value.is_complex()):
            continue
        value = value.float() if value.element_size() == 1 else value  # float8 lacks most functions
        if bool(value.isnan().any()):
            return f"{name} holds NaN"
        if name in parameters and not bool(value.isfinite().all()):
            return f"{name} holds infinity"
    return ""


def parameter_names(model: object, names: Iterable[str]) -> set[str]:
    """Which of the names of `model.state_dict()`, without wrappers, are parameters: all, where a Module keeps what it
    learned in buffers, as a Gaussian does."""
    if not isinstance(model, nn.Module):
        return set()
    found = (name for name, _ in model.named_parameters(remove_duplicate=False))
    return set(own_names(model, found).values()) or set(names)
