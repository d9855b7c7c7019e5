"""Running averages of many tensors, of each with several weights, from one read of the tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .dispatch import apart, beside, composed, dense, register_fake, require_tensors, without_autograd


def average(averages: Sequence[Tensor], values: Sequence[Tensor], weights: Tensor) -> None:
    r"""Moves averages toward values, each with K weights, in one call.

        a_ik = a_ik + w_k (v_i - a_ik)      unless w_k > 0 the average stays, whatever v_i is; w_k = 1 makes it v_i

    averages: (K, *) float32 for each value, written to; every a_ik contiguous or channels-last.  values: (*) float32
    each, of any strides.  weights: (K,) float32, up to 1, read on the device.  Of each number (1 + 2 K) 4 bytes are
    moved, where K calls of torch._foreach_lerp_ move 3 K 4.
    Float64 is computed by plain torch.  Not differentiable: use `average_reference`.
    Raises TypeError or RuntimeError naming the argument.
    """
    if _quick(averages, values, weights) is not NotImplemented:
        return
    for name, tensors in (("averages", averages), ("values", values)):
        if not isinstance(tensors, tuple | list):
            raise TypeError(f"average: {name} must be a list of tensors; got {type(tensors).__name__}")
        require_tensors("average", **{f"{name}[{i}]": tensor for i, tensor in enumerate(tensors)})
    require_tensors("average", weights=weights)
    if composed(*averages, weights):
        _require(averages, values, weights)
        for a, v in zip(averages, values):
            apart("average", {"averages[i]": a}, {"values[i]": v})
        average_reference(averages, values, weights)
        return
    laid = [beside(v, a[0]) if len(a.shape) and len(a) else dense(v) for a, v in zip(averages, values)]
    laid += values[len(laid) :]
    _call(list(averages), [v.detach() for v in laid], weights.contiguous())


def _require(averages: Sequence[Tensor], values: Sequence[Tensor], weights: Tensor) -> None:
    """Raises as the kernel does, on the ways around it."""
    if len(values) != len(averages):
        raise RuntimeError(f"average: values must be as many as averages, {len(averages)}; got {len(values)}")
    for i, (a, v) in enumerate(zip(averages, values)):
        for name, tensor in (("averages[i]", a), ("values[i]", v)):
            if (tensor.dtype, tensor.device) != (weights.dtype, weights.device):
                wanted = f"{weights.dtype} on {weights.device}, as weights"
                got = f"{tensor.dtype} on {tensor.device} (i = {i})"
                raise RuntimeError(f"average: {name} must be {wanted}; got {got}")
        if a.shape != (*weights.shape, *v.shape):
            wanted = f"({len(weights)}, *values[i].shape)"
            raise RuntimeError(f"average: averages[i] must have shape {wanted}; got {tuple(a.shape)} (i = {i})")


def average_reference(averages: Sequence[Tensor], values: Sequence[Tensor], weights: Tensor) -> None:
    """`average` in plain torch, in the dtype of the averages."""
    for a, v in zip(averages, values):
        w = weights.to(a.dtype).view(-1, *[1] * v.ndim)
        v = v.detach().to(a.dtype).expand_as(a)
        a.copy_(torch.where(w > 0, torch.where(w == 1, v, torch.lerp(a, v, w)), a))


_quick, _call = without_autograd("average")


@register_fake("average")
def _(averages, values, weights):
    _require(averages, values, weights)
