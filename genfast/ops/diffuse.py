"""The forward process, scaled for the network, its noise made in registers."""

import torch
from torch import Tensor

from ..common.checks import require_dtype, shown
from .dispatch import (
    composed,
    dense,
    finite_rows,
    packed,
    per_row,
    register_fake,
    require_tensors,
    same_batch,
    wants_grad,
    with_autograd,
    without_autograd,
)
from .noise import Purpose, noise_like, stream


def diffuse(
    x0: Tensor,
    key: Tensor,
    alpha: Tensor,
    sigma: Tensor,
    c_in: Tensor | None = None,
    *,
    target: tuple[Tensor, Tensor] | None = None,
    step: int = 0,
    purpose: int = Purpose.TRAIN,
    dtype: torch.dtype | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""y = c_in (alpha x_0 + sigma z),  z ~ N(0, I) from (key, step, purpose).

    x0: (B, *) float32.  key: (B, 2), see `make_key`.  alpha, sigma, c_in: (B,) float32, c_in None for 1.  `target=(p,
    q)`, each (B,) float32, also returns p x_0 + q z (float32): (0, 1) is the noise itself.  All of any strides, which
    are copied unless contiguous or channels-last.  y: (B, *) in `dtype` (float32, bfloat16 or float16; None is that of
    x0), computed in float32 and rounded once. Differentiable in x0.  A float64 x0 is computed in float64, by plain
    torch, from the same noise. Raises ValueError or RuntimeError naming the argument for a wrong shape, dtype or
    device, and on the CPU for a coefficient that is not finite.
    """
    counter = stream(purpose, step)
    p, q = target if (given := isinstance(target, tuple) and len(target) == 2) else (None, None)
    if isinstance(x0, Tensor) and (target is None or (given and p is not None)):
        out = _quick(x0, key, alpha, sigma, c_in, p, q, counter, x0.dtype if dtype is None else dtype)
        if out is not NotImplemented:
            return out[0] if target is None else out
    require_tensors("diffuse", x0=x0, key=key, alpha=alpha, sigma=sigma)
    dtype = x0.dtype if dtype is None else require_dtype("dtype", dtype)
    if target is not None and not (isinstance(target, tuple | list) and len(target) == 2):
        raise ValueError(f"diffuse: target must be (p, q), or None; got {shown(target)}")
    p, q = target if target is not None else (None, None)
    if target is not None:
        require_tensors("diffuse", **{"target[0]": p, "target[1]": q})
    same_batch("diffuse", x0, alpha=alpha, sigma=sigma, c_in=c_in, p=p, q=q)
    if wants_grad(alpha, sigma, c_in, p, q) or composed(x0):
        finite_rows("diffuse", x0, alpha=alpha, sigma=sigma, c_in=c_in, p=p, q=q)
        y, aim = diffuse_reference(x0, noise_like(x0, key, purpose, step), alpha, sigma, c_in, target)
        y = y.to(dtype)
    else:
        x0 = dense(x0)
        small = packed(key, alpha, sigma, c_in, p, q)
        y, aim = _fused(x0, *small, counter, dtype)
    return y if target is None else (y, aim)


def diffuse_reference(
    x0: Tensor,
    z: Tensor,
    alpha: Tensor,
    sigma: Tensor,
    c_in: Tensor | None = None,
    target: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """`diffuse` of given noise, in plain torch."""
    y = per_row(alpha, x0) * x0 + per_row(sigma, x0) * z
    if c_in is not None:
        y = per_row(c_in, x0) * y
    return y, None if target is None else per_row(target[0], x0) * x0 + per_row(target[1], x0) * z


@register_fake("diffuse")
def _(x0, key, alpha, sigma, c_in, p, q, stream, dtype):
    return torch.empty_like(x0, dtype=dtype), torch.empty_like(x0) if p is not None else x0.new_empty(0)


def _setup(ctx, inputs, output):
    _, _, alpha, _, c_in, p, *_ = inputs
    ctx.set_materialize_grads(False)
    ctx.scale = alpha if c_in is None else alpha * c_in
    ctx.p = p
    ctx.dtype = inputs[0].dtype


def _backward(ctx, grad_y, grad_target):
    grad = None if grad_y is None else per_row(ctx.scale, grad_y) * grad_y.to(ctx.dtype)
    if grad_target is not None and ctx.p is not None:
        through = per_row(ctx.p, grad_target) * grad_target
        grad = through if grad is None else grad + through
    return grad, *[None] * 8


_quick, _ = without_autograd("diffuse")
_, _fused = with_autograd("diffuse", _setup, _backward)
