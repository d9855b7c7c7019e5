"""What a captured step depends on without seeing it change: where a network lies in memory, and torch's settings."""

from collections.abc import Hashable, Iterable

import torch
from torch import Tensor, nn

_PLAIN = {bool, int, float, str, type(None), torch.dtype}
_MODES = {"training", "_evaluating"}  # which sampling sees to itself


def fingerprint(network: nn.Module) -> object:
    """Equal only as long as the network launches the same kernels on the same memory: modules, hooks, functions
    and plain values among their attributes, also in lists and dicts, and of each tensor where and how it lies."""
    return tuple(map(_of_module, network.modules()))


def fingerprints(networks: Iterable[object]) -> dict[int, object]:
    """Of those that are Modules, by their id."""
    return {id(net): fingerprint(net) for net in networks if isinstance(net, nn.Module)}


def surroundings(device: torch.device) -> Hashable:
    """What of torch's settings chooses kernels, dtypes and kinds of tensors."""
    cuda, cudnn, matmul = torch.backends.cuda, torch.backends.cudnn, torch.backends.cuda.matmul
    return (
        torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type), torch.get_default_dtype(),
        torch.backends.fp32_precision, matmul.fp32_precision, cudnn.conv.fp32_precision,
        matmul.allow_fp16_reduced_precision_reduction, matmul.allow_bf16_reduced_precision_reduction,
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic, torch.are_deterministic_algorithms_enabled(),
        cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled(), cuda.cudnn_sdp_enabled(),
        torch.is_inference_mode_enabled(),
    )  # fmt: skip


def _of_module(module: nn.Module) -> object:
    held = [(name, _of(value)) for name, value in vars(module).items() if name not in _MODES]
    return id(module), type(module), *held


def _of(value: object) -> object:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, dict):
        return [(name, _of(part)) for name, part in value.items()] if value else None
    if isinstance(value, list | tuple):
        return list(map(_of, value))
    if isinstance(value, Tensor):
        return _of_tensor(value)
    # A function, such as a `forward` of the module's own, is held: another one may come to lie where it lay.
    return value if callable(value) else id(value)


def _of_tensor(t: Tensor) -> object:
    if t.layout != torch.strided or nn.parameter.is_lazy(t):
        return object()  # equal to no other, for nothing says where it lies
    return t.data_ptr(), t.dtype, t.device, t.shape, t.stride()
