"""Float64, whatever is given: functions of a float, a numpy array or a tensor that answer with the same kind."""

import functools
import numbers

import numpy as np
import torch

from .checks import as_tensor, require_tensor, shown
from .host_reads import host_may_read


def weights_dtype(network):
    """The dtype of the network's first floating-point parameter; None for one that has none, as a plain function."""
    parameters = network.parameters() if isinstance(network, torch.nn.Module) else ()
    return next((p.dtype for p in parameters if p.is_floating_point()), None)


def weights_device(network, default=torch.device("cpu")):  # noqa: B008
    """The device of the network's first parameter; the default for what has none."""
    weights = network.parameters() if callable(getattr(network, "parameters", None)) else ()
    return next((p.device for p in weights), default)


def concrete(tensor):
    """Whether the values of a tensor can be looked at without ending a graph that is being compiled, or stopping
    vmap."""
    return not torch.compiler.is_compiling() and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def readable(tensor):
    """`concrete`, without waiting for an accelerator, and not within `no_host_reads`."""
    return tensor.device.type == "cpu" and host_may_read() and concrete(tensor)


def as_float64(name, value):
    """`value` as a float64 tensor without NaN, or an error that names the argument."""
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, np.ndarray, torch.Tensor)):
        raise TypeError(f"{name} must be a float, a numpy array or a tensor; got {type(value).__name__}")
    if isinstance(value, np.ndarray):
        tensor = require_tensor(name, value.copy())
    else:
        tensor = value if isinstance(value, torch.Tensor) else as_tensor(name, value, torch.float64)
    if tensor.is_complex() or tensor.dtype == torch.bool or tensor.layout != torch.strided:
        kind = tensor.dtype if tensor.layout == torch.strided else tensor.layout
        raise TypeError(f"{name} must hold real numbers; got {kind}")
    tensor = tensor.to(torch.float64)
    if readable(tensor) and bool(tensor.isnan().any()):
        raise ValueError(f"{name} must not hold NaN; got {shown(value)}")
    return tensor


def float64_function(formula):
    """A method of t, or of `log_snr` if it is called time, from a formula on float64 tensors."""
    argument = "log_snr" if formula.__name__ == "time" else "t"

    @functools.wraps(formula)
    def method(self, value):
        tensor = as_float64(argument, value)
        if argument == "t" and readable(tensor) and bool(((tensor < 0) | (tensor > 1)).any()):
            raise ValueError(f"t must lie in [0, 1] (0 is data, 1 is noise); got {shown(value)}")
        result = formula(self, tensor)
        if isinstance(value, torch.Tensor):
            return result
        return result.numpy() if isinstance(value, np.ndarray) else result.item()

    return method
