"""When an op takes its fused kernel and when plain torch, and the checks that C++ cannot make."""

import torch
from torch import Tensor


def composed(*tensors: Tensor | None) -> bool:
    """Whether an op must be composed of torch's own ops: in float64, under torch.func, and under forward-mode AD.

    A custom op gives silently zero tangents under `torch.func.jvp`, and fails under `torch.func.grad`.  Under
    torch.compile the level is None and the fused op is traced; a transform inside a compiled function is refused by
    torch, loudly.
    """
    return (
        torch._C._functorch.maybe_current_level() is not None
        or torch.autograd.forward_ad._current_level >= 0
        or any(t is not None and t.dtype == torch.float64 for t in tensors)
    )


def wants_grad(*tensors: Tensor | None) -> bool:
    """Whether a gradient is wanted of any of the tensors."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def per_row(coefficient: Tensor, like: Tensor) -> Tensor:
    """(B,) to (B, 1, ..., 1), to go with like: (B, *)."""
    return coefficient.reshape(-1, *[1] * (like.ndim - 1))


def same_batch(op: str, x: Tensor, **coefficients: Tensor | None) -> None:
    """Raises ValueError unless every coefficient has shape (B,)."""
    for name, value in coefficients.items():
        if value is not None and value.shape != x.shape[:1]:
            raise ValueError(f"{op}: {name} must have shape ({len(x)},), one number a sample, got {tuple(value.shape)}")


def in_layout_of(x: Tensor, like: Tensor) -> Tensor:
    """x in the memory format of `like`, copied only if it has another; a `like` with gaps counts as contiguous."""
    return x if x.stride() == like.stride() else torch.empty_like(like, dtype=x.dtype).copy_(x)


def dense(x: Tensor) -> Tensor:
    """x itself if it is contiguous or channels-last, which the kernels take; otherwise a contiguous copy."""
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    return x if last is not None and x.is_contiguous(memory_format=last) else x.contiguous()
