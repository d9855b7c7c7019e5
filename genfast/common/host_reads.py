"""Reads of the device by the host: each waits until the device has done all that it was given."""

import contextlib
import threading

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_HERE = threading.local()  # .refused: how many `no_host_reads` this thread is in


def host_may_read() -> bool:
    """Whether values of tensors may be looked at, for checks of what the host can see: not within `no_host_reads`."""
    return not getattr(_HERE, "refused", 0)


class HostRead(RuntimeError):
    """The host would wait for the device."""


class no_host_reads(contextlib.AbstractContextManager):
    """Inside it, an operation whose answer, or its shape, is the value of a tensor raises HostRead, a RuntimeError.

        with genfast.testing.no_host_reads():
            model(x)

    `item`, `bool(tensor)`, `torch.equal`, `nonzero`, masks as indices: on a GPU each of them makes the host wait, and a
    CUDA graph cannot hold it.  So does a copy from an accelerator to the CPU.  Where a function of this library looks
    at values on a CPU to refuse bad ones, it does not inside.  on: only tensors of this device, by default all.
    """

    def __init__(self, on: torch.device | str | None = None):
        self._mode = _Refusing(None if on is None else torch.device(on))

    def __enter__(self) -> None:
        _HERE.refused = getattr(_HERE, "refused", 0) + 1
        self._mode.__enter__()

    def __exit__(self, *error) -> None:
        self._mode.__exit__(*error)
        _HERE.refused -= 1


class _Refusing(TorchDispatchMode):
    def __init__(self, on: torch.device | None):
        super().__init__()
        self.on = on

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        watched = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and self.on in (None, t.device)]
        if watched and _reads_values(function, args):
            raise HostRead(f"the host would wait for a value on the device: {function} reads it")
        answer = function(*args, **kwargs)
        far = any(t.device.type not in ("cpu", "meta") for t in watched)
        if far and isinstance(answer, Tensor) and answer.device.type == "cpu":
            raise HostRead(f"the host would wait for the device: {function} copies from there")
        return answer


def _reads_values(function, args: tuple) -> bool:
    """Whether the answer, or its shape, is a value of an argument's."""
    if function.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_):
        return any(isinstance(at, Tensor) and at.dtype in (torch.bool, torch.uint8) for at in args[1])
    return not {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}.isdisjoint(function.tags)
