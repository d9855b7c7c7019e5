"""How many kernels a call launches: what the host has to get through, however small the tensors are."""

from collections import Counter
from collections.abc import Callable

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Of torch's ops that answer with new tensors, or write to one, those that are no work for a device.
NO_WORK = {"_unsafe_view", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_", "set_"}


def count_launches(function: Callable[[], object], device: torch.device | str = "cpu") -> Counter[str]:
    """How often `function()` launches which kernel, by name.

    On a CPU these are the ops that are called below autograd, torch's and genfast's, one each, however many kernels
    they are on a GPU: a convolution with a bias is two there, a `_foreach_` or fused op of an optimizer some dozens.
    Views and memory without values are none, nor are reads of a number by the host. On CUDA: kernels, copies and fills
    on the device, as the profiler has them. On "meta", where networks go the ways of a GPU: ops again, a convolution
    with a bias being two and an attention one.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return _profiled(function)
    with _Launches(kind == "meta") as mode:
        if kind != "meta":
            function()
        else:
            with _Attentions(mode):
                function()
    return mode.counts


class _Launches(TorchDispatchMode):
    def __init__(self, as_a_gpu: bool):
        super().__init__()
        self.counts, self.as_a_gpu, self.counting = Counter(), as_a_gpu, True

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        name = op.overloadpacket.__name__
        if self.counting and is_launch(op):
            self.counts[name] += 1
            if self.as_a_gpu and name == "convolution" and args[2] is not None:
                self.counts["bias of a convolution"] += 1
        return op(*args, **(kwargs or {}))


class _Attentions(TorchFunctionMode):
    """Counts an attention as one, which torch takes apart on a device that has no kernel for it, and gives its heads
    side by side, as a kernel does."""

    def __init__(self, launches: _Launches):
        super().__init__()
        self.launches = launches

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is not torch.nn.functional.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        self.launches.counts["attention"] += 1
        self.launches.counting = False
        try:
            return function(*args, **(kwargs or {})).transpose(1, 2).contiguous().transpose(1, 2)
        finally:
            self.launches.counting = True


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
