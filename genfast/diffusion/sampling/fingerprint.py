"""What a captured step depends on without seeing it change: where a network lies in memory, and torch's settings."""

from collections.abc import Hashable

import torch
from torch import Tensor, nn

_PLAIN = (bool, int, float, str, type(None), torch.dtype)


def fingerprint(network: nn.Module) -> Hashable:
    """Equal only as long as the network launches the same kernels on the same memory: modules, their hooks and plain
    attributes, and of each of their tensors the address, dtype, device and layout."""
    return tuple(map(_of_module, network.modules()))


def versions(network: nn.Module) -> Hashable:
    """How often each of its parameters and buffers was changed in place; None where torch does not count."""
    tensors = [*network.parameters(), *network.buffers()]
    return None if any(t.is_inference() for t in tensors) else tuple(t._version for t in tensors)


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
    tensors = [*module._parameters.values(), *module._buffers.values(), *held.values()]
    plain = [(name, value) for name, value in held.items() if isinstance(value, _PLAIN) and name != "training"]
    places = [(t.data_ptr(), t.dtype, t.device, t.shape, t.stride()) for t in tensors if isinstance(t, Tensor)]
    return id(module), *module._forward_pre_hooks, *module._forward_hooks, *plain, *places
