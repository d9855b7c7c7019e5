"""What a captured step depends on without seeing it change: where a network lies in memory, and torch's settings."""

from collections import OrderedDict
from collections.abc import Hashable

import torch
from torch import Tensor, nn

_PLAIN = {bool, int, float, str, type(None), torch.dtype}
_HOLDERS = {dict, OrderedDict, set, list, tuple}  # not looked into; most attributes of a Module


def fingerprint(network: nn.Module) -> Hashable:
    """Equal only as long as the network launches the same kernels on the same memory: modules, their hooks and plain
    attributes, and of each of their tensors the address, dtype, device and layout."""
    return tuple(map(_of_module, network.modules()))


def versions(network: nn.Module) -> Hashable:
    """How often each of its parameters and buffers was changed in place; None where torch does not count."""
    tensors = [*network.parameters(), *network.buffers()]
    return None if any(t.is_inference() for t in tensors) else tuple([t._version for t in tensors])


def surroundings(device: torch.device) -> Hashable:
    """What of torch's settings chooses kernels, dtypes and kinds of tensors."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return (
        torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type),
        torch.backends.fp32_precision, matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.enabled,
        cudnn.benchmark, cudnn.deterministic, torch.are_deterministic_algorithms_enabled(),
        torch.is_inference_mode_enabled(),
    )  # fmt: skip


def _of_module(module: nn.Module) -> Hashable:
    held = vars(module)
    plain = [item for item in held.items() if type(item[1]) in _PLAIN and item[0] != "training"]
    others = [value for value in held.values() if type(value) not in _PLAIN and type(value) not in _HOLDERS]
    tensors = [*module._parameters.values(), *module._buffers.values(), *others]
    places = [(t.data_ptr(), t.dtype, t.device, t.shape, t.stride()) for t in tensors if isinstance(t, Tensor)]
    return id(module), *module._forward_pre_hooks, *module._forward_hooks, *plain, *places
