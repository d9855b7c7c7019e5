"""One row of a sampler's plan for a whole batch, in one pass and in place."""

from typing import NamedTuple

import torch
from torch import Tensor

from .dispatch import composed, per_row
from .noise import normal

SLOTS = 4


class StepTable(NamedTuple):
    r"""A plan as the kernel reads it: R rows, and the T terms of their noise.

    coefficients: (R, 44) float32: c_skip, c_out, a, b, e_0..e_3, c_in, 0, 0, 0, then for each of four slots p, q, 0, 0,
    m_0..m_3.  codes: (R, 4) int32: the first of the row's noise terms and the one after the last, bit masks of the
    slots read and written.  streams: (T,) int32 (the bits of a uint32), weights: (T,) float32.
    """

    coefficients: Tensor
    codes: Tensor
    streams: Tensor
    weights: Tensor

    def to(self, device: torch.device | str) -> "StepTable":
        return StepTable(*(part.to(device) for part in self))


def step(
    x: Tensor,
    net: Tensor,
    key: Tensor,
    row: Tensor,
    table: StepTable,
    *,
    y: Tensor | None = None,
    history: Tensor | None = None,
    unconditional: Tensor | None = None,
    guidance: Tensor | None = None,
    clamp: tuple[float, float] | None = None,
) -> None:
    r"""Advances every sample by the row of the plan that it is at.

        F   = F_u + w (F_c - F_u)                              where unconditional is given
        D   = c_skip x + c_out F                               then clamped, if clamp is given
        x'  = a x + b D + sum_k e_k h_k + sum_j weights_j z_j  over the noise terms of the row
        h_k' = p_k x + q_k D + sum_j m_kj h_j                  for the slots that the row writes
        y   = c_in x'

    x: (B, *) float32, becomes x'.  net, unconditional: (B, *) the network's outputs, float32, bfloat16 or float16.
    y: (B, *) of net's dtype, becomes the next network input.  history: (S, B, *) float32, S <= 4, becomes h'.
    guidance: (B,) float32, w; 1 is F_c, exactly.  key: (B, 2).  row: (B,) int32.  All in the memory format of x.
    Float64 state (and history) is computed in float64, by plain torch.  Not differentiable: use `step_reference`.
    Raises RuntimeError naming the argument; a row out of range raises on the CPU and makes its sample NaN on a GPU.
    """
    if composed(x):
        if x.device.type == "cpu":
            _require_rows(row, table, 0 if history is None else len(history))
        with torch.no_grad():
            step_reference(
                x, net, key, row, table,
                y=y, history=history, unconditional=unconditional, guidance=guidance, clamp=clamp,
            )  # fmt: skip
        return
    low, high = clamp if clamp is not None else (None, None)
    torch.ops.genfast.step(x, y, history, net, unconditional, guidance, key, row, *table, low, high)


def _require_rows(row: Tensor, table: StepTable, slots: int) -> None:
    """Raises as the kernel does for a row that the table does not have, and a slot that is not given."""
    count = len(table.codes)
    if bool(((row < 0) | (row >= count)).any()):
        raise RuntimeError(f"step: row must lie in 0 to {count - 1}; got {row.tolist()}")
    if bool((table.codes[:, 2:] >> slots).any()):
        raise RuntimeError(f"step: the plan touches a history slot beyond the {slots} given")


def step_reference(
    x: Tensor,
    net: Tensor,
    key: Tensor,
    row: Tensor,
    table: StepTable,
    *,
    y: Tensor | None = None,
    history: Tensor | None = None,
    unconditional: Tensor | None = None,
    guidance: Tensor | None = None,
    clamp: tuple[float, float] | None = None,
) -> None:
    """`step` in plain torch, in the dtype of x; the coefficients may be float64."""
    c = table.coefficients[row.long()].to(x.dtype)
    codes = table.codes[row.long()]
    column = c.T.reshape(-1, len(x), *[1] * (x.ndim - 1)).unbind()
    net = net.to(x.dtype)
    if unconditional is not None:
        w = per_row(guidance.to(x.dtype), x)
        net = torch.where(w == 1, net, unconditional + w * (net - unconditional))
    denoised = column[0] * x + column[1] * net
    if clamp is not None:
        denoised = denoised.clamp(*clamp)
    old = [] if history is None else list(history.clone())
    following = column[2] * x + column[3] * denoised
    for k, h in enumerate(old):
        following = following + column[4 + k] * h
    following = following + _noise(x, key, row, table)
    for k in range(len(old)):
        writes = (codes[:, 3] >> k & 1).bool()
        if writes.device.type == "cpu" and not bool(writes.any()):
            continue
        at = 12 + 8 * k
        new = column[at] * x + column[at + 1] * denoised
        for j, h in enumerate(old):
            new = new + column[at + 4 + j] * h
        history[k] = torch.where(per_row(writes, x), new, old[k])
    x.copy_(following)
    if y is not None:
        y.copy_(column[8] * following)


def _noise(x: Tensor, key: Tensor, row: Tensor, table: StepTable) -> Tensor:
    """sum_j weights_j z_j, for each sample over the terms of the row that it is at."""
    total = torch.zeros_like(x)
    for at in row.unique().tolist() if len(table.weights) else ():
        here = row == at
        first, last = table.codes[at, :2].tolist()
        for stream, weight in zip(table.streams[first:last].tolist(), table.weights[first:last], strict=True):
            z = normal(key[here], x.shape[1:], stream & 0xFF, stream >> 8 & 0xFFFFFF)
            total[here] += weight.to(x.dtype) * z.to(x.dtype)
    return total


@torch.library.register_fake("genfast::step")
def _(x, y, history, net, unconditional, guidance, key, row, coefficients, codes, streams, weights, low, high):
    return None
