"""Layer and root-mean-square normalization of tokens, gated residuals before and modulation after, in one pass."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.checks import require_bool, require_number
from .dispatch import (
    HALVES,
    alike,
    as_eps,
    composed,
    empty_affine,
    leaf,
    mask,
    one_device,
    packed,
    register_fake,
    require_optional,
    require_tensors,
    wanted,
    widened,
    widened_beside,
    with_autograd,
    with_rows,
)


def layer_norm_modulate(
    x: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    *,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-6,
) -> Tensor:
    r"""y = (1 + scale) (weight x_hat + bias) + shift,  x_hat = (x - mean) / sqrt(var + eps) over the last dimension.

    x: (B, *, D) float32, bfloat16 or float16, copied unless contiguous; scale, shift: (B, D), one row for all tokens of
    a sample, rows may have gaps (a chunk of a wider table is taken as it is); weight, bias: (D,).  None leaves a term
    out.  Returns the shape and dtype of x.  Computed in float32 and rounded once; the small tensors are read in
    float32 or in the dtype of x, and converted from others.  The variance is exact for any mean, and the order of sums
    depends on the shape only, so a sample does not depend on its batch.  Differentiable any number of times: x, mean
    and 1 / std are kept, and one pass gives all gradients; higher derivatives, torch.func, forward-mode AD and float64
    are plain torch, whose layer_norm is right up to second derivatives.
    Raises ValueError or RuntimeError naming the argument.  Layer normalization: Ba, Kiros, Hinton (2016),
    arXiv:1607.06450; modulated: Peebles, Xie (2022), arXiv:2212.09748, section 3.2 (adaLN).
    """
    out = _quick(x, None, None, weight, bias, scale, shift, eps, False, False)
    return out[0] if out is not NotImplemented else _prepared(x, None, None, scale, shift, weight, bias, eps, False)[1]


def rms_norm_modulate(
    x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None, *, weight: Tensor | None = None,
    eps: float = 1e-6,
) -> Tensor:  # fmt: skip
    """y = (1 + scale) weight x_hat + shift,  x_hat = x / sqrt(mean x^2 + eps) over the last dimension.

    Arguments as of `layer_norm_modulate`; for queries and keys x: (B, heads, tokens, D) and weight: (D,).
    Zhang, Sennrich (2019), arXiv:1910.07467.
    """
    out = _quick(x, None, None, weight, None, scale, shift, eps, True, False)
    return out[0] if out is not NotImplemented else _prepared(x, None, None, scale, shift, weight, None, eps, True)[1]


def gate_residual_norm_modulate(
    residual: Tensor,
    gate: Tensor,
    y: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    *,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-6,
    rms: bool = False,
) -> tuple[Tensor, Tensor]:
    """(r, n): r = residual + gate y, and n = layer_norm_modulate(r), or rms_norm_modulate(r) where `rms` says so.

    residual, y: (B, *, D) alike, gate: (B, D), rows may have gaps; the others as of `layer_norm_modulate`.  Both
    results have the dtype of residual, to which y is converted if it has another.  n is that of r in float32, before r
    is rounded: each is rounded once.
    """
    out = NotImplemented if y is None else _quick(residual, y, gate, weight, bias, scale, shift, eps, rms, False)
    if out is not NotImplemented:
        return out[1], out[0]
    require_tensors("gate_residual_norm_modulate", residual=residual, gate=gate, y=y)
    rms = require_bool("rms", rms)
    return _prepared(residual, y, gate, scale, shift, weight, bias, eps, rms)


def norm_modulate_reference(x, scale=None, shift=None, weight=None, bias=None, eps=1e-6, rms=False):
    """Layer or RMS normalization and modulation in plain torch, in the dtype of x."""
    weight, bias = (None if t is None else t.to(x.dtype) for t in (weight, bias))
    if rms:
        h = F.rms_norm(x, x.shape[-1:], weight, eps)
    else:
        h = F.layer_norm(x, x.shape[-1:], weight, bias, eps)
    if scale is not None:
        h = h * (1 + _spread(scale, x))
    return (h if shift is None else h + _spread(shift, x)).to(x.dtype)


def _spread(m: Tensor, x: Tensor) -> Tensor:
    """(B, D) to (B, 1, ..., 1, D), to go with x: (B, *, D)."""
    if m.shape != (len(x), x.shape[-1]):
        raise ValueError(f"scale, shift and gate must have shape {(len(x), x.shape[-1])}; got {tuple(m.shape)}")
    return m.reshape(len(x), *[1] * (x.ndim - 2), x.shape[-1])


def _prepared(x, y, gate, scale, shift, weight, bias, eps, rms) -> tuple[Tensor, Tensor]:
    """(v, n); v is x itself without a gate."""
    require_tensors("norm_modulate", x=x)
    require_optional("norm_modulate", scale=scale, shift=shift, weight=weight, bias=bias)
    eps = as_eps(eps)
    if composed(x, y, gate, scale, shift, weight, bias):
        if x.dtype in HALVES:
            gate, weight, bias, scale, shift = widened(gate, weight, bias, scale, shift)
        one_device("norm_modulate", x=x, y=y, gate=gate, scale=scale, shift=shift, weight=weight, bias=bias)
        require_number("norm_modulate: eps", eps, least=0)
        if y is not None:
            alike("norm_modulate", residual=x, y=y)
        v = x if y is None else (x + _spread(gate, x) * y).to(x.dtype)
        return v, norm_modulate_reference(v, scale, shift, weight, bias, eps, rms)
    gate, weight, bias, scale, shift = widened_beside(x, gate, weight, bias, scale, shift)
    if y is not None and y.dtype != x.dtype and y.is_floating_point():
        y = y.to(x.dtype)
    x, y = packed(x, y)
    gate, weight, bias, scale, shift = with_rows(gate, weight, bias, scale, shift)
    out, v, *_ = _fused(x, y, gate, weight, bias, scale, shift, eps, rms)
    return (x if y is None else v), out


@register_fake("norm_modulate")
def _(x, y, gate, weight, bias, scale, shift, eps, rms, keep_moments):
    rows = torch.Size(x.shape[:-1]).numel()
    moments = x.new_empty((2 - rms, rows) if keep_moments else 0, dtype=torch.float32)
    return torch.empty_like(x), x.new_empty(0) if y is None else torch.empty_like(x), moments


@register_fake("norm_modulate_backward")
def _(grad_out, grad_v_too, v, y, moments, gate, weight, bias, scale, need_v, needs):
    grad_v = torch.empty_like(v) if need_v else v.new_empty(0)
    grad_y = v.new_empty(0) if gate is None else torch.empty_like(v)
    to_gate = 0 if y is None else (len(v), v.shape[-1])
    return grad_v, grad_y, *empty_affine(v, v.shape[-1], needs), v.new_empty(to_gate, dtype=torch.float32)


def _setup(ctx, inputs, output):
    x, y, gate, weight, bias, scale, _, _, _, ctx.kept = inputs
    _, v, moments = output
    ctx.gated = y is not None
    ctx.set_materialize_grads(False)
    _, need_y, need_gate, *_ = ctx.needs_input_grad
    ctx.save_for_backward(
        x if y is None else v, y if need_gate else None, gate if need_y else None, weight, bias, scale, moments
    )


def _backward(ctx, grad_out, grad_v_too, *_):
    if not ctx.kept:
        raise RuntimeError("norm_modulate: called on tensors that need a gradient with keep_moments=False")
    v, y, *small, moments = ctx.saved_tensors
    gate, weight, bias, scale = widened(*small)
    need_x, need_y, need_gate, need_weight, need_bias, need_scale, need_shift, *_ = ctx.needs_input_grad
    grad_out = torch.zeros_like(v) if grad_out is None else grad_out.contiguous()
    grad_v_too = grad_v_too.contiguous() if ctx.gated and grad_v_too is not None else None
    needs = (need_weight, need_bias, need_scale, need_shift)
    grad_v, grad_y, *grads, to_gate = _fused_backward(
        grad_out, grad_v_too, v, y, moments, gate, weight, bias, scale, need_x or need_y or need_gate, mask(needs)
    )
    return (
        grad_v if need_x else None, grad_y if need_y else None, to_gate if need_gate else None,
        *wanted(grads, needs), None, None, None,
    )  # fmt: skip


def _backward_reference(grad_out, grad_v_too, v, y, gate, weight, bias, scale, rstd, rms):
    """What the backward op answers, in plain torch, (B, T, D) in float32.

    1 / rstd^2 is kept, not recomputed: only its derivative in v is needed, and eps is not known here.
    """
    far = v if rms else v - v.mean(-1, keepdim=True)
    square = far.square().mean(-1, keepdim=True)
    root = (square - square.detach() + rstd**-2).rsqrt()
    x_hat = far * root
    d = grad_out if weight is None else grad_out * weight
    d = d if scale is None else d * (1 + scale[:, None])
    inner = d - x_hat * (d * x_hat).mean(-1, keepdim=True)
    grad_v = root * (inner if rms else inner - d.mean(-1, keepdim=True))
    grad_v = grad_v if grad_v_too is None else grad_v + grad_v_too
    grads, slopes = grad_out.sum(1), (grad_out * x_hat).sum(1)
    by = 1 if scale is None else 1 + scale
    to_scale = slopes if weight is None else weight * slopes
    to_scale = to_scale if bias is None else to_scale + bias * grads
    to_gate = None if y is None else (grad_v * y).sum(1)
    grad_y = None if gate is None else gate[:, None] * grad_v
    return grad_v, grad_y, (by * slopes).sum(0), (by * grads).sum(0), to_scale, grads, to_gate


def _setup_backward(ctx, inputs, output):
    *tensors, _, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)


def _double_backward(ctx, *cotangents):
    """By plain torch: the derivatives of `_backward_reference`."""
    grad_out, grad_v_too, v, y, moments, gate, weight, bias, scale = ctx.saved_tensors

    def wide(t):  # (B, *, D) to (B, T, D)
        return t.float().unsqueeze(1).flatten(1, -2)

    further = torch.is_grad_enabled()
    with torch.enable_grad():
        tokens = [leaf(t) for t in (grad_out, grad_v_too, v, y)]
        small = [leaf(t) for t in (gate, weight, bias, scale)]
        outputs = _backward_reference(
            *(None if t is None else wide(t) for t in tokens), *small,
            moments[-1].detach().reshape(*wide(v).shape[:2], 1), len(moments) == 1,
        )  # fmt: skip
        pairs = [
            (o, c if c.shape == o.shape else wide(c))
            for o, c in zip(outputs, cotangents, strict=True)
            if o is not None and c is not None and c.numel()
        ]
        if not pairs:
            return (None,) * 11
        leaves = [t for t in (*tokens, *small) if t is not None]
        found = torch.autograd.grad(
            [o for o, _ in pairs], leaves, [c for _, c in pairs], create_graph=further, allow_unused=True
        )
    found = iter(found)
    first = [None if t is None else next(found) for t in (*tokens, *small)]
    return *first[:4], None, *first[4:], None, None


_, _fused_backward = with_autograd("norm_modulate_backward", _setup_backward, _double_backward)
_quick, _fused = with_autograd("norm_modulate", _setup, _backward, keeps=True, outputs=2)
