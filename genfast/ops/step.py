"""One row of a sampler's plan for a whole batch, in one pass and in place."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..common.checks import as_tensor, require_choice, require_pair, shown
from ..common.precision import readable
from .dispatch import (
    alike,
    apart,
    beside,
    composed,
    finite_rows,
    one_device,
    packed,
    per_row,
    register_fake,
    require_guided,
    require_optional,
    require_tensors,
    shaped,
    without_autograd,
)
from .noise import normal, split_stream

SLOTS = 4  # of the history
COLUMNS = 4 + SLOTS + 4 + SLOTS * (4 + SLOTS)  # of a row, as it lies in memory: see StepRows.of, and csrc/math/step.h


class StepRows(NamedTuple):
    """The coefficients of rows by the names that the equations of `step` have for them.

    c_skip, c_out, a, b, c_in: (*); e, p, q: (*, SLOTS); m: (*, SLOTS, SLOTS), the factor of h_j in h_k' at k, j.
    """

    c_skip: Tensor
    c_out: Tensor
    a: Tensor
    b: Tensor
    e: Tensor
    c_in: Tensor
    p: Tensor
    q: Tensor
    m: Tensor

    @classmethod
    def of(cls, coefficients: Tensor) -> "StepRows":
        """Views of (*, COLUMNS): c_skip, c_out, a, b; e; c_in and 3 unused; for each slot p, q and 2 unused; m."""
        first, e, after, slots = coefficients.split_with_sizes((4, SLOTS, 4, SLOTS * (4 + SLOTS)), -1)
        factors, m = slots.view(*slots.shape[:-1], SLOTS, 4 + SLOTS).split_with_sizes((4, SLOTS), -1)
        (c_skip, c_out, a, b), (p, q, *_) = first.unbind(-1), factors.unbind(-1)
        return cls(c_skip=c_skip, c_out=c_out, a=a, b=b, e=e, c_in=after.select(-1, 0), p=p, q=q, m=m)


class StepCodes(NamedTuple):
    """What rows touch: the first of their noise terms and the one after the last, bit masks of slots read and written;
    (*) each."""

    first: Tensor
    last: Tensor
    reads: Tensor
    writes: Tensor

    @classmethod
    def of(cls, codes: Tensor) -> "StepCodes":
        """Views of the columns of (*, 4)."""
        return cls._make(codes.unbind(-1))


class StepTable(NamedTuple):
    r"""A plan as the kernel reads it: R rows, and the T terms of their noise.

    coefficients: (R, COLUMNS) float32, see `StepRows`.  codes: (R, 4) int32, see `StepCodes`.  streams: (T,) int32 (the
    bits of a uint32), weights: (T,) float32.
    """

    coefficients: Tensor
    codes: Tensor
    streams: Tensor
    weights: Tensor

    @classmethod
    def pack(
        cls,
        *,
        c_skip: Tensor | float,
        c_out: Tensor | float,
        a: Tensor,
        b: Tensor,
        c_in: Tensor | float,
        e: Tensor | float = 0.0,
        p: Tensor | float = 0.0,
        q: Tensor | float = 0.0,
        m: Tensor | float = 0.0,
        writes: Tensor | bool = False,
        terms: Sequence[Sequence[tuple[int, float]]] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> "StepTable":
        """The table of R rows, whose length is that of a: numbers as in `StepRows`, or that broadcast to these shapes.

        writes: (R, SLOTS) bool, which slots a row writes; it reads those that e or m have a factor for.  terms: for
        each row the (stream, weight) of its noise, by default none.  Rounded to `dtype` at the end.
        """
        if (a := as_tensor("a", a, torch.float64)).ndim != 1:
            raise ValueError(f"a must have shape (R,), one number a row; got {tuple(a.shape)}")
        coefficients = torch.zeros(len(a), COLUMNS, dtype=torch.float64, device="cpu")
        rows = StepRows.of(coefficients)
        values = {
            "c_skip": c_skip, "c_out": c_out, "a": a, "b": b, "e": e, "c_in": c_in, "p": p, "q": q, "m": m,
        }  # fmt: skip
        for name, value in values.items():
            getattr(rows, name).copy_(_broadcast(name, value, getattr(rows, name).shape))
        terms = [[] for _ in range(len(a))] if terms is None else terms
        if not isinstance(terms, tuple | list) or len(terms) != len(a):
            raise ValueError(f"terms must be {len(a)} lists of (stream, weight), one a row; got {shown(terms)}")
        dtype = require_choice("dtype", dtype, (torch.float32, torch.float64))
        last = torch.tensor([len(of_row) for of_row in terms], device="cpu").cumsum(0)
        codes = StepCodes(
            first=torch.cat([last.new_zeros(1), last[:-1]]), last=last,
            reads=_mask((rows.e != 0) | (rows.m != 0).any(-2)),
            writes=_mask(_broadcast("writes", writes, (len(a), SLOTS), torch.bool)),
        )  # fmt: skip
        streams = torch.tensor([stream for of_row in terms for stream, _ in of_row], dtype=torch.int64, device="cpu")
        weights = torch.tensor([weight for of_row in terms for _, weight in of_row], dtype=dtype, device="cpu")
        signed = torch.where(streams >= 2**31, streams - 2**32, streams)
        return cls(coefficients.to(dtype), torch.stack(codes, 1).int(), signed.int(), weights)

    def followed_by(self, other: "StepTable") -> "StepTable":
        """The rows of this table, then those of the other."""
        codes = StepCodes.of(other.codes)
        codes = codes._replace(first=codes.first + len(self.streams), last=codes.last + len(self.streams))
        other = other._replace(codes=torch.stack(codes, 1))
        return StepTable(**{name: torch.cat([part, getattr(other, name)]) for name, part in self._asdict().items()})

    def to(self, device: torch.device | str) -> "StepTable":
        return StepTable(**{name: part.to(device) for name, part in self._asdict().items()})


def _broadcast(name: str, value: object, shape: Sequence[int], dtype: torch.dtype = torch.float64) -> Tensor:
    """value in this shape. Raises TypeError or ValueError for what does not broadcast to it."""
    value = as_tensor(name, value, dtype).cpu()
    pairs = zip(value.shape[::-1], tuple(shape)[::-1], strict=False)
    if value.ndim > len(shape) or any(n not in (1, m) for n, m in pairs):
        raise ValueError(f"{name} must broadcast to shape {tuple(shape)}; got {tuple(value.shape)}")
    return value.expand(shape)


def _mask(slots: Tensor) -> Tensor:
    """(R, SLOTS) bool as the bits of (R,) integers."""
    return (slots * torch.tensor([1 << k for k in range(SLOTS)], device="cpu")).sum(1)


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
    y: (B, *) of net's dtype, becomes the next network input.  history: (S, B, *) float32, S <= SLOTS, becomes h'.
    guidance: (B,) float32, w; 1 is F_c, exactly.  key: (B, 2).  row: (B,) int32.  x, y and history of one
    memory format, contiguous or channels-last, for they are written to; the rest of any.
    Float64 state (and history) is computed in float64, by plain torch.  Not differentiable: use `step_reference`; not
    for torch.func.
    Raises RuntimeError naming the argument; a row out of range raises on the CPU and makes its sample NaN on a GPU.
    """
    low, high = clamp if type(clamp) is tuple and len(clamp) == 2 else (None, None)
    if type(table) is StepTable and (clamp is None) is (low is None):
        done = _quick(x, y, history, net, unconditional, guidance, key, row, *table, low, high)
        if done is not NotImplemented:
            return
    require_tensors("step", x=x, net=net, key=key, row=row)
    require_optional("step", y=y, history=history)
    require_guided("step", unconditional, guidance)
    if not isinstance(table, StepTable):
        raise TypeError(f"step: table must be a StepTable; got {type(table).__name__}")
    clamp = None if clamp is None else require_pair("clamp", clamp, infinite=True)
    if composed(x):
        _require(x, net, key, row, table, y, history, unconditional, guidance)
        with torch.no_grad():
            step_reference(
                x, net, key, row, table,
                y=y, history=history, unconditional=unconditional, guidance=guidance, clamp=clamp,
            )  # fmt: skip
        return
    low, high = clamp if clamp is not None else (None, None)
    small = packed(guidance, key, row, table.coefficients, table.codes, table.streams, table.weights)
    _call(x, y, history, beside(net, x), beside(unconditional, x), *small, low, high)


def _require(x, net, key, row, table, y, history, unconditional, guidance) -> None:
    """Raises as the kernel does, on the way around it."""
    if torch._C._functorch.is_functorch_wrapped_tensor(x):
        raise RuntimeError("step: x must not be mapped by torch.func, for the first dimension is the batch already")
    alike("step", x=x, net=net, unconditional=unconditional, y=y)
    one_device("step", x=x, history=history, key=key, row=row, **table._asdict())
    finite_rows("step", x, guidance=guidance)
    apart("step", {"x": x, "y": y, "history": history}, {"net": net, "unconditional": unconditional})
    slots = 0 if history is None else len(history)
    shaped(
        "step", key=(key, (len(x), 2)), row=(row, (len(x),)), guidance=(guidance, (len(x),)),
        history=(history, (min(slots, SLOTS), *x.shape)),
    )  # fmt: skip
    if row.dtype != torch.int32:
        raise RuntimeError(f"step: row must be int32; got {str(row.dtype).removeprefix('torch.')}")
    count, terms, codes = len(table.codes), len(table.streams), StepCodes.of(table.codes)
    if readable(row) and bool(((row < 0) | (row >= count)).any()):
        raise RuntimeError(f"step: row must lie in 0 to {count - 1}; got {row.tolist()}")
    if readable(row) and bool(((codes.first < 0) | (codes.first > codes.last) | (codes.last > terms)).any()):
        raise RuntimeError(f"step: the rows of the plan must have noise terms within the {terms} there are")
    if readable(row) and bool(((codes.reads | codes.writes) >> slots).any()):
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
    row = row.long()
    c = table.coefficients[row].to(x.dtype)
    c = StepRows.of(c.view(len(x), *[1] * (x.ndim - 1), COLUMNS))
    net = net.to(x.dtype)
    if unconditional is not None:
        w = per_row(guidance.to(x.dtype), x)
        net = torch.where(w == 1, net, unconditional + w * (net - unconditional))
    denoised = c.c_skip * x + c.c_out * net
    if clamp is not None:
        denoised = denoised.clamp(*clamp)
    old = [] if history is None else list(history.clone())
    following = c.a * x + c.b * denoised
    for k, h in enumerate(old):
        following = following + c.e.select(-1, k) * h
    following = following + _noise(x, key, row, table)
    written = StepCodes.of(table.codes[row]).writes if old else None
    for k in range(len(old)):
        writes = (written >> k & 1).bool()
        if writes.device.type == "cpu" and not bool(writes.any()):
            continue
        new = c.p.select(-1, k) * x + c.q.select(-1, k) * denoised
        for j, h in enumerate(old):
            new = new + c.m.select(-2, k).select(-1, j) * h
        history[k] = torch.where(per_row(writes, x), new, old[k])
    x.copy_(following)
    if y is not None:
        y.copy_(c.c_in * following)


def _noise(x: Tensor, key: Tensor, row: Tensor, table: StepTable) -> Tensor:
    """sum_j weights_j z_j, for each sample over the terms of the row that it is at."""
    total = torch.zeros_like(x)
    for at in row.unique().tolist() if len(table.weights) else ():
        here, code = row == at, StepCodes._make(table.codes[at].tolist())
        terms = slice(code.first, code.last)
        for stream, weight in zip(table.streams[terms].tolist(), table.weights[terms], strict=True):
            z = normal(key[here], x.shape[1:], *split_stream(stream))
            total[here] += weight.to(x.dtype) * z.to(x.dtype)
    return total


_quick, _call = without_autograd("step")


@register_fake("step")
def _(x, y, history, net, unconditional, guidance, key, row, coefficients, codes, streams, weights, low, high):
    return None
