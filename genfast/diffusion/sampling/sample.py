"""Sampling: chunks of samples along a Plan, row by row, a network evaluation and one fused step each: step.py is a row,
trajectory.py the loop over rows that the host finds, captured.py the same by a CUDA graph, whose rows the device finds.

A sample is a function of (network, seed, sample index, plan, condition). The network always runs on whole chunks of one
fixed shape, and sample i always has slot i mod chunk in it, so that even the network's own rounding does not depend on
how many samples were asked for, or on which. All coefficients are computed beforehand, in float64, on the host; nothing
in the loop reads the device.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ... import ops
from ...common.checks import as_tensor, require_device, require_number, require_shape, require_tensor
from ...common.eval_mode import evaluating
from ...common.indices import as_chunk, as_index, chunk_index, chunk_passes, require_finite, spread
from ...common.units import Units, original, standardized
from ..guidance.classifier_free import Guidance
from ..process.denoisers import Denoiser, require_denoiser
from ..process.plans import Plan
from .graph import Graphs, captures
from .settings import SampleSettings, require_arguments
from .trajectory import Trajectory


class State(NamedTuple):
    """What a callback sees after each row: samples `where` (positions among those asked for) are now at x.

    row, rows: which of how many; x: (b, *) the state after the row; denoised: (b, *) D, the estimate of x_0 in the row.
    Of a denoiser with units both are carried over to the data's, as mean + sd x_t.
    """

    row: int
    rows: int
    where: Tensor
    x: Tensor
    denoised: Tensor


def network_arguments(guidance, condition, unconditional, index, dtype):
    """The arguments of the network and of the one that gives F_u, each (N, *), and w, (N,) or None; checked."""
    require_arguments(condition=condition, unconditional=unconditional)
    condition = condition or {}
    if guidance is not None and guidance.network is not None:
        if unconditional is not None:
            raise ValueError("unconditional must be left out where guidance has a network of its own")
        unconditional = condition
    if (guidance is None) != (unconditional is None):
        raise ValueError("guidance and unconditional go together")
    unconditional = unconditional or {}
    for name, value in [*condition.items(), *unconditional.items()]:
        if require_tensor(f"condition {name!r}", value).shape[:1] != index.shape or not isinstance(value, Tensor):
            raise ValueError(f"condition {name!r} must be a tensor ({len(index)}, *), one row a sample")
    if guidance is None:
        return condition, unconditional, None
    if condition.keys() != unconditional.keys():
        names = f"the names of condition, {sorted(condition)}; got {sorted(unconditional)}"
        raise ValueError(f"unconditional must have {names}")
    w = as_tensor("guidance", guidance.scale, dtype).cpu()
    if w.ndim > 0 and w.shape != index.shape:
        raise ValueError(f"guidance must be a number or have shape ({len(index)},); got {tuple(w.shape)}")
    return condition, unconditional, w.expand(len(index))


def _whole_samples(values, index, shape, dtype):
    """Those of `values` that are not None, as (N, *shape) tensors of the state's dtype; checked."""
    if (values["known"] is None) != (values["mask"] is None):
        raise ValueError("known and mask go together")
    out = {}
    for name, value in values.items():
        if value is None:
            continue
        expected = (len(index), *shape)
        value = as_tensor(name, value, dtype)
        try:
            out[name] = value.expand(expected)
        except RuntimeError:
            got = tuple(value.shape)
            raise ValueError(f"{name} must have shape {expected}, or one that broadcasts to it; got {got}") from None
        if not bool(out[name].isfinite().all()):
            raise ValueError(f"{name} must be finite")
    if "mask" in out and not bool(((out["mask"] >= 0) & (out["mask"] <= 1)).all()):
        low, high = (f"{value:g}" for value in out["mask"].aminmax())
        raise ValueError(f"mask must lie in [0, 1]; got values from {low} to {high}")
    return out


def _watcher(callback, rows, where, slots, units):
    """The callback of a chunk: only the samples that were asked for, on the CPU."""

    def shown(x):
        return original(units, x.cpu()[slots])

    return lambda row, x, D: callback(State(row, rows, where, shown(x), shown(D)))


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    shape: Sequence[int],
    plan: Plan,
    index: int | Sequence[int] | Tensor,
    *,
    seed: int = 0,
    start: Tensor | None = None,
    source: Tensor | None = None,
    strength: float | None = None,
    condition: dict[str, Tensor] | None = None,
    unconditional: dict[str, Tensor] | None = None,
    guidance: float | Tensor | Guidance | None = None,
    clamp: tuple[float, float] | None = None,
    threshold: float | None = None,
    known: Tensor | None = None,
    mask: Tensor | None = None,
    noise: str = "white",
    chunk: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    graph: bool | str = "auto",
    progress: bool = True,
    callback: Callable[[State], None] | None = None,
) -> Tensor:
    r"""Samples x_0, (N, *shape) in `dtype`, by following the plan from x_1 = prior_std z.

    A plan that begins below t = 1, where x_t is not noise alone (alpha > 0.1 sigma), needs start, or source.

    index: N, for samples 0 to N - 1, or the (N,) indices themselves: sample 5 is the same whatever else is asked for.
    start: (N, *shape), x at the time of the plan's first row, instead of prior_std z.  source, strength: (N, *shape),
    or shaped to broadcast to it, and in (0, 1]: data x_0, noised to the first row with t <= strength as alpha x_0 +
    sigma z with the z of prior_std z, and brought back from there (SDEdit, Meng et al. 2022, arXiv:2108.01073). The
    plan must be of a solver without a history over steps, or begin there.
    condition: keyword arguments of the network, each (N, *).  guidance: a `Guidance`, or its scale, with
    `unconditional`, the arguments of the network that gives F_u (none of one's own with `Guidance(network=...)`).
    clamp: (low, high) for D at every row.  threshold: a quantile; D at every row goes through `ops.dynamic_threshold`
    (data in [-1, 1]).  known, mask: (N, *shape), or shaped to broadcast to it: what the sample is to be, noised as the
    time of each row asks, where mask is 1 (inpainting by replacement; Song et al. 2021, arXiv:2011.13456, I.2).
    noise: "white" or "brownian", one path for each (seed, index) whatever the number of steps.
    The network must not keep or change its input, which may be the state itself (a change in place is refused).
    chunk: samples per network call; it is part of what a sample depends on, in so far as the network's rounding depends
    on its batch.  None: the largest power of two, at most 64 on a CPU and 256 on a GPU, with which a chunk has at most
    2^24 numbers.  dtype float64 runs in float64 throughout, by plain torch; the network runs in the dtype
    of its own weights, and in eval mode.  callback: called with a `State` after each row.
    graph: whether, on a GPU, a step is captured once as a CUDA graph and replayed for every row; "auto": where that can
    be. Elsewhere True is ignored, with a warning. The bits are those of the loop, which runs where there are Langevin
    rows, known=, a callback or float64, which True refuses, and under "auto" for networks that are no Module. A network
    that waits for values on the GPU, or that CUDA refuses, is warned of once under "auto", and refused under True.
    Captured steps are kept with a model (`Diffusion.release`), here for one call only. What a network computes is then
    what it computed first: weights may change, in place or not, and so may hooks, functions and plain values among the
    attributes of its modules; what else its Python depends on may not.

    Raises ValueError naming the argument, FloatingPointError if a sample is not finite.
    """
    require_denoiser(denoiser)
    if not isinstance(plan, Plan):
        raise TypeError(f"plan must be a Plan; got {type(plan).__name__}")
    settings = SampleSettings(
        seed=seed, guidance=guidance, clamp=clamp, threshold=threshold, noise=noise, chunk=chunk, dtype=dtype,
        device=device, graph=graph, progress=progress, callback=callback,
    )  # fmt: skip
    require_device("device", settings.device)
    return sample_with(
        settings, denoiser, require_shape("shape", shape), plan, as_index("index", index),
        start=start, source=source, strength=strength, condition=condition, unconditional=unconditional,
        known=known, mask=mask,
    )  # fmt: skip


def require_no_bounds(units: Units | None, **bounds: object) -> None:
    """ValueError, naming it, for a bound of D where D is in other units than the data."""
    for name, value in bounds.items():
        if units is not None and value is not None:
            remedy = "clip= is of samples, in the data's units"
            raise ValueError(f"{name} must be None for a model of standardized data; got {value}: {remedy}")


def require_strength(source: object, start: object, strength: float | None) -> float | None:
    """strength as a number in (0, 1]; a ValueError unless it goes with source, and source without start."""
    if (source is None) != (strength is None):
        raise ValueError("source and strength go together")
    if source is not None and start is not None:
        raise ValueError("source and start exclude each other: both say where to begin")
    return None if strength is None else require_number("strength", strength, above=0, most=1)


def sample_with(
    settings: SampleSettings,
    denoiser: Denoiser,
    shape: tuple[int, ...],
    plan: Plan,
    index: Tensor,
    *,
    start: Tensor | None,
    source: Tensor | None,
    strength: float | None,
    condition: dict[str, Tensor],
    unconditional: dict[str, Tensor] | None,
    known: Tensor | None,
    mask: Tensor | None,
    graphs: Graphs | None = None,
) -> Tensor:
    """`sample` once its settings are checked, with gradients off. index: (N,) int64.  graphs: where captured steps are
    kept; by default none are."""
    dtype, device, chunk = settings.dtype, settings.device, as_chunk(settings.chunk, shape, settings.device)
    condition, unconditional, w = network_arguments(settings.guidance, condition, unconditional, index, dtype)
    strength = require_strength(source, start, strength)
    if strength is not None:
        plan = plan.below(strength)
    elif start is None:
        plan.require_prior()
    extra = {"start": start, "source": source, "known": known, "mask": mask}
    extra = _whole_samples(extra, index, shape, dtype) | ({} if w is None else {"w": w})
    extra |= {name: standardized(denoiser.units, extra[name]) for name in ("source", "known") if name in extra}
    require_no_bounds(denoiser.units, clamp=settings.clamp, threshold=settings.threshold)
    if known is not None and (plan.a[-1], plan.b[-1]) != (0, 1):
        raise ValueError(f"known needs a plan that ends at t = 0; {plan.name} does not")

    trajectory, replays = Trajectory(denoiser, plan, settings), None
    if captures(settings, trajectory.way.networks, plan, known):
        kept = graphs if all(isinstance(net, nn.Module) for net in trajectory.way.networks) else None
        replays = (kept or Graphs()).of(trajectory, must=settings.graph is True)
    out = torch.empty(len(index), *shape, dtype=dtype, device=device)
    passes = list(chunk_passes(index, chunk))
    rows, silent = len(passes) * len(plan), not settings.progress
    bar = tqdm(total=rows, desc="sampling", unit="row", leave=False, delay=2, disable=silent)
    with bar, denoiser.evaluating(), evaluating(settings.guidance and settings.guidance.network):
        for first, where in passes:
            slots = index[where] - first
            key = ops.make_key(settings.seed, chunk_index(first, chunk), device)
            conditions, unconditionals, more = (
                {name: spread(values[where], slots, chunk) for name, values in group.items()}
                for group in (condition, unconditional, extra)
            )
            inputs = trajectory.chunk(key, shape, conditions, unconditionals, more)
            x = replays(inputs, bar.update) if replays else None
            if x is None:
                watch = settings.callback and _watcher(settings.callback, len(plan), where, slots, denoiser.units)
                x = trajectory.run(inputs, watch, bar.update)
            whole = torch.arange(chunk, device="cpu")
            if torch.equal(slots, whole) and torch.equal(where, where[0] + whole):
                out[where[0] : where[0] + chunk] = x
            else:
                out[where.to(device)] = x[slots.to(device)]
    require_finite(out, index, "; a callback shows the row where that begins")
    return original(denoiser.units, out)
