"""The one sampling loop: follows a Plan row by row, a network evaluation and one fused step each.

A sample is a function of (network, seed, sample index, plan, condition). The network always runs on whole chunks of one
fixed shape, and sample i always has slot i mod chunk in it, so that even the network's own rounding does not depend on
how many samples were asked for, or on which. All coefficients are computed beforehand, in float64, on the host; nothing
in the loop reads the device.
"""

import numbers
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from . import ops
from .denoisers import Denoiser
from .plans import SLOTS, Plan


class State(NamedTuple):
    """What a callback sees after each row: samples `where` (positions among those asked for) are now at x.

    row, rows: which of how many; x: (b, *) the state after the row; denoised: (b, *) D, the estimate of x_0 in the row.
    """

    row: int
    rows: int
    where: Tensor
    x: Tensor
    denoised: Tensor


def step_table(plan: Plan, denoiser: Denoiser, dtype: torch.dtype = torch.float32) -> ops.StepTable:
    """The plan's rows joined with the denoiser's scalings, as `ops.step` reads them: (R, 44) and (R, 4)."""
    scale = denoiser.coefficients(torch.tensor(plan.t))
    e, m, writes = torch.tensor(plan.e), torch.tensor(plan.m), torch.tensor(plan.writes)
    following = torch.cat([scale.c_in[1:], scale.c_in.new_ones(1)])  # y is the input of the next row
    step = torch.stack([scale.c_skip, scale.c_out, torch.tensor(plan.a), torch.tensor(plan.b)], 1)
    draws = torch.cat([torch.tensor(plan.s), following[:, None], torch.zeros(len(plan), 1)], 1)
    slots = torch.zeros(len(plan), SLOTS, 8, dtype=torch.float64)
    slots[:, :, 0], slots[:, :, 1], slots[:, :, 4:] = torch.tensor(plan.p), torch.tensor(plan.q), m
    table = torch.cat([step, e, draws, slots.flatten(1)], 1)

    bits = torch.tensor([1 << k for k in range(SLOTS)])
    reads = (e != 0) | (m != 0).any(1)
    masks = torch.stack([(reads * bits).sum(1), (writes * bits).sum(1)], 1)
    codes = torch.cat([torch.tensor(plan.stream), masks], 1)
    return ops.StepTable(table.to(dtype), torch.where(codes >= 2**31, codes - 2**32, codes).int())


def as_index(name: str, index: int | Sequence[int] | Tensor) -> Tensor:
    """Sample indices, (N,) int64 on the CPU, from their number N or the indices; a ValueError names the argument."""
    problem = ValueError(f"{name} must be a number of samples or their indices, integers, none negative; got {index!r}")
    if isinstance(index, numbers.Integral) and not isinstance(index, bool):
        if index < 0:
            raise problem
        return torch.arange(int(index))
    try:
        tensor = torch.as_tensor(index).cpu()
    except (TypeError, ValueError, RuntimeError):
        raise problem from None
    integers = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
    if tensor.ndim != 1 or (len(tensor) and (not integers or int(tensor.min()) < 0)):
        raise problem
    return tensor.to(torch.int64)


def _passes(index: Tensor, chunk: int) -> Iterator[tuple[int, Tensor]]:
    """(first sample of a chunk, positions in `index` that fall into it), each sample at most once in a pass."""
    left = torch.arange(len(index))
    while len(left):
        group = index[left] // chunk
        order = torch.argsort(group, stable=True)
        rest = []
        for members in torch.tensor_split(left[order], torch.nonzero(group[order].diff()).flatten() + 1):
            first_of = {}
            for position in members.tolist():
                first_of.setdefault(int(index[position]), position)
            taken = torch.tensor(sorted(first_of.values()))
            yield int(index[taken[0]]) // chunk * chunk, taken
            rest += sorted(set(members.tolist()) - set(taken.tolist()))
        left = torch.tensor(sorted(rest), dtype=torch.int64)


def _spread(values: Tensor, slots: Tensor, chunk: int) -> Tensor:
    """(b, *) values of the wanted slots as (chunk, *); the other slots repeat the first."""
    out = values[:1].expand(chunk, *values.shape[1:]).clone()
    out[slots] = values
    return out


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    shape: Sequence[int],
    plan: Plan,
    index: int | Sequence[int] | Tensor,
    *,
    seed: int = 0,
    condition: dict[str, Tensor] | None = None,
    unconditional: dict[str, Tensor] | None = None,
    guidance: float | Tensor | None = None,
    clamp: tuple[float, float] | None = None,
    chunk: int = 64,
    dtype: torch.dtype = torch.float32,
    net_dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    progress: bool = True,
    callback: Callable[[State], None] | None = None,
) -> Tensor:
    r"""Samples x_0, (N, *shape) in `dtype`, by following the plan from x_1 = prior_std z.

    index: N, for samples 0 to N - 1, or the (N,) indices themselves: sample 5 is the same whatever else is asked for.
    condition: keyword arguments of the network, each (N, *).  guidance: w, or (N,) of them, with `unconditional`, the
    arguments without the condition: F = F_u + w (F_c - F_u); Ho and Salimans 2022, arXiv:2207.12598.
    clamp: (low, high) for D at every row.  chunk: samples per network call; it is part of what a sample depends on, in
    so far as the network's rounding depends on its batch.  dtype float64 runs in float64 throughout, by plain torch.
    net_dtype: of the network's input, by default `dtype`.  callback: called with a `State` after each row.

    Raises ValueError naming the argument, FloatingPointError if a sample is not finite.
    """
    index = as_index("index", index)
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise ValueError(f"chunk must be an integer of at least 1; got {chunk!r}")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype, of the state, must be float32 or float64; got {dtype}")
    if (guidance is None) != (unconditional is None):
        raise ValueError("guidance and unconditional go together")
    condition, unconditional = condition or {}, unconditional or {}
    for name, value in [*condition.items(), *unconditional.items()]:
        if not isinstance(value, Tensor) or value.shape[:1] != index.shape:
            raise ValueError(f"condition {name!r} must be a tensor ({len(index)}, *), one row a sample")
    if guidance is not None:
        if condition.keys() != unconditional.keys():
            names = f"the names of condition, {sorted(condition)}; got {sorted(unconditional)}"
            raise ValueError(f"unconditional must have {names}")
        guidance = torch.as_tensor(guidance, dtype=dtype).cpu()
        if guidance.ndim > 0 and guidance.shape != index.shape:
            raise ValueError(f"guidance must be a number or have shape ({len(index)},); got {tuple(guidance.shape)}")
        guidance = guidance.expand(len(index))
    if clamp is not None and not (isinstance(clamp, (tuple, list)) and len(clamp) == 2 and clamp[0] <= clamp[1]):
        raise ValueError(f"clamp must be (low, high) with low <= high; got {clamp!r}")

    table = step_table(plan, denoiser, dtype).to(device)
    scale = denoiser.coefficients(torch.tensor(plan.t))
    c_noise = scale.c_noise.to(device, dtype)
    net_dtype = net_dtype or dtype
    start = plan.prior_std * float(scale.c_in[0])
    rows = torch.arange(len(plan), dtype=torch.int32, device=device)[:, None].expand(-1, chunk).contiguous()
    out = torch.empty(len(index), *shape, dtype=dtype, device=device)

    passes = list(_passes(index, chunk))
    total = len(passes) * len(plan)
    with tqdm(total=total, desc="sampling", unit="row", leave=False, delay=2, disable=not progress) as bar:
        for first, where in passes:
            slots = index[where] - first
            key = ops.make_key(seed, torch.arange(first, first + chunk), device)
            given = {k: _spread(v[where], slots, chunk).to(device) for k, v in condition.items()}
            w = None
            if guidance is not None:  # both halves in one network call
                w = _spread(guidance[where], slots, chunk).to(device)
                without = {k: _spread(v[where], slots, chunk).to(device) for k, v in unconditional.items()}
                given = {k: torch.cat([given[k], without[k]]) for k in given}
            z = ops.normal(key, shape, ops.Purpose.PRIOR, dtype=dtype)
            x, y, history = plan.prior_std * z, (start * z).to(net_dtype), None
            for r in range(len(plan)):
                y = y.to(net_dtype)
                twice = y if w is None else torch.cat([y, y])
                net = denoiser.net(twice, c_noise[r].expand(len(twice)), **given)
                if net.shape != twice.shape:
                    shapes = f"{tuple(twice.shape)}; got {tuple(net.shape)}"
                    raise ValueError(f"the network must answer with the shape of its input, {shapes}")
                if net.dtype != net_dtype:  # the wider of the two, so that neither input nor answer is rounded again
                    net = net.to(torch.promote_types(net.dtype, net_dtype))
                if r == 0:  # state, history and network input take the memory format in which the network answers
                    x = ops.in_layout_of(x, ops.dense(net)[:chunk])
                    if plan.slots:
                        history = x.new_empty_strided((plan.slots, *x.shape), (x.numel(), *x.stride())).zero_()
                if y.dtype != net.dtype or y.stride() != x.stride():
                    y = torch.empty_like(x, dtype=net.dtype)
                net = ops.in_layout_of(net[:chunk], x), None if w is None else ops.in_layout_of(net[chunk:], x)
                state = None if callback is None else (x.clone(), *net)
                ops.step(
                    x, net[0], key, rows[r], table,
                    y=y, history=history, unconditional=net[1], guidance=w, clamp=clamp,
                )  # fmt: skip
                if callback is not None:
                    D = _denoised(*state, w, float(scale.c_skip[r]), float(scale.c_out[r]), clamp)
                    callback(State(r, len(plan), where, x.cpu()[slots], D.cpu()[slots]))
                bar.update()
            out[where.to(device)] = x[slots.to(device)]
    if not bool(out.isfinite().all()):
        bad = index[~out.flatten(1).isfinite().all(1).cpu()].tolist()
        raise FloatingPointError(f"samples {bad[:5]} are not finite; a callback shows the row where that begins")
    return out


def _denoised(x, conditional, unconditional, guidance, c_skip, c_out, clamp):
    """D of a row, for those who watch."""
    net = conditional.to(x.dtype)
    if unconditional is not None:
        net = torch.lerp(unconditional.to(x.dtype), net, guidance.reshape(-1, *[1] * (x.ndim - 1)))
    D = c_skip * x + c_out * net
    return D if clamp is None else D.clamp(*clamp)
