"""How many kernels a call launches: what the host has to get through, however small the tensors are."""

from collections import Counter
from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Of torch's ops that answer with new tensors, or write to one, those that are no work for a device.
NO_WORK = {"_unsafe_view", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_", "set_"}


def count_launches(function: Callable[[], object], device: torch.device | str = "cpu") -> Counter[str]:
    """How often `function()` launches which kernel, by name.

    On a CPU these are the ops that are called below autograd, torch's and genfast's, one each, however many kernels
    they are on a GPU: a convolution with a bias is two there, a `_foreach_` or fused op of an optimizer some dozens.
    Views and memory without values are none, nor are reads of a number by the host. On CUDA: kernels, copies and fills
    on the device, as the profiler has them.
    """
    if torch.device(device).type == "cuda":
        return _profiled(function)
    with _Launches() as mode:
        function()
    return mode.counts


class _Launches(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if is_launch(op):
            self.counts[op.overloadpacket.__name__] += 1
        return op(*args, **(kwargs or {}))


def is_launch(op: torch._ops.OpOverload) -> bool:
    """Whether an op fills or changes a tensor, by its schema: a view answers with memory of an argument, unchanged."""
    if op.overloadpacket.__name__ in NO_WORK:
        return False
    if op._schema.is_mutable:
        return True
    outputs = op._schema.returns
    return any("Tensor" in str(output.type) for output in outputs) and not any(o.alias_info for o in outputs)


def _profiled(function: Callable[[], object]) -> Counter[str]:
    profiler = torch.profiler
    with profiler.profile(activities=[profiler.ProfilerActivity.CUDA]) as profile:
        function()
        torch.cuda.synchronize()
    on_device = (e for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA)
    return Counter(event.name for event in on_device if not event.is_user_annotation)
