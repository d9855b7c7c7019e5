"""Samples by their indices, and the chunks of one fixed shape in which networks see them.

Sample i always has slot i mod chunk, so that not even the network's own rounding depends on how many samples were asked
for, or on which.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .checks import as_tensor, holds_integers, is_integer, require_chunk, require_integer, shown
from .keys import MAX_SEED, make_key


def as_index(name: str, index: int | Sequence[int] | Tensor) -> Tensor:
    """Sample indices, (N,) int64 on the CPU, from their number N or the indices; a ValueError names the argument."""

    def problem() -> ValueError:
        return ValueError(
            f"{name} must be a number of samples or their indices, integers, none negative; got {shown(index)}"
        )

    if is_integer(index):
        if not 0 <= int(index) <= MAX_SEED:
            raise problem()
        return torch.arange(int(index), device="cpu")
    try:
        tensor = as_tensor(name, index).cpu()
    except TypeError:
        raise problem() from None
    if tensor.ndim != 1 or (len(tensor) and not holds_integers(tensor)):
        raise problem()
    tensor = tensor.to(torch.int64)
    if len(tensor) and int(tensor.min()) < 0:
        raise problem()
    return tensor


def as_chunk(chunk: int | None, shape: Sequence[int] | None, device: torch.device) -> int:
    """Rows of one call of a network, from the argument `chunk`.

    None: the largest power of two, at most 64 on a CPU and 256 elsewhere, with which a chunk of samples of this shape
    has at most 2^24 numbers; at least 1. Never what a machine has room for, for samples depend on it, by the network's
    rounding. Raises ValueError for what is no chunk.
    """
    if chunk is not None:
        return require_chunk(chunk)
    fit = max(1, 2**24 // max(1, math.prod(shape or ())))
    return min(64 if device.type == "cpu" else 256, 1 << (fit.bit_length() - 1))


def chunk_passes(index: Tensor, chunk: int) -> Iterator[tuple[int, Tensor]]:
    """(first sample of a chunk, positions in `index` that fall into it), each sample at most once in a pass."""
    left = torch.arange(len(index), device="cpu")
    while len(left):
        group = index[left] // chunk
        order = torch.argsort(group, stable=True)
        rest = []
        for members in torch.tensor_split(left[order], torch.nonzero(group[order].diff()).flatten() + 1):
            first_of = {}
            for position in members.tolist():
                first_of.setdefault(int(index[position]), position)
            taken = torch.tensor(sorted(first_of.values()), device="cpu")
            yield int(index[taken[0]]) // chunk * chunk, taken
            rest += sorted(set(members.tolist()) - set(taken.tolist()))
        left = torch.tensor(sorted(rest), dtype=torch.int64, device="cpu")


def chunk_index(first: int, chunk: int) -> Tensor:
    """The sample indices of a chunk, (chunk,) int64: first, first + 1, ... and, beyond the last that there is, that."""
    return first + torch.arange(chunk, device="cpu").clamp(max=MAX_SEED - first)


def spread(values: Tensor, slots: Tensor, chunk: int) -> Tensor:
    """(b, *) values of the wanted slots as (chunk, *); the other slots repeat the first."""
    out = values[:1].expand(chunk, *values.shape[1:]).clone(memory_format=torch.contiguous_format)
    out[slots] = values
    return out


def in_chunks(
    make: Callable[[Tensor, dict[str, Tensor], Tensor, Tensor], Tensor], index: Tensor,
    conditions: dict[str, Tensor], *, seed: int, chunk: int, device: torch.device, shape: Sequence[int] | None,
) -> Tensor:  # fmt: skip
    """The samples `index`, (N, *), of a network that is called on whole chunks; (0, *shape) for none of them.

    make(key, conditions, taken, slots) -> (chunk, *) has those at index[taken] in its rows `slots`; key:
    (chunk, 2), of all rows.  conditions: each (N, *), handed over as (chunk, *).
    Raises FloatingPointError if a sample is not finite.
    """
    parts, places = [], []
    for first, taken in chunk_passes(index, chunk):
        slots = index[taken] - first
        key = make_key(seed, chunk_index(first, chunk), device=device)
        now = {name: spread(value[taken], slots, chunk).to(device) for name, value in conditions.items()}
        parts.append(make(key, now, taken, slots)[slots.to(device)])
        places.append(taken)
    if parts:
        samples = torch.cat(parts)[torch.argsort(torch.cat(places)).to(device)]
        require_finite(samples, index)
        return samples
    if shape is None:
        raise ValueError("shape of a sample is not known yet: train first, or pass shape=")
    return torch.empty(0, *shape, dtype=torch.float32, device=device)


def require_finite(samples: Tensor, index: Tensor, hint: str = "") -> None:
    """Raises FloatingPointError that names the first of the samples `index`, (N, *), that are not finite."""
    if samples.is_meta:  # and holds no numbers
        return
    if not bool(samples.sum().isfinite() or samples.isfinite().all()):  # the sum costs a tenth, and is finite as a rule
        bad = index[~samples.flatten(1).isfinite().all(1).cpu()].tolist()
        raise FloatingPointError(f"samples {bad[:5]} are not finite{hint}")


def share(n: int, chunk: int = 64, rank: int | None = None, ranks: int | None = None) -> Tensor:
    """The sample indices of one process of several, (m,) int64: whole chunks, so that the union over the ranks equals,
    bit for bit, what one process draws: `model.sample(share(n))` under torchrun, whose RANK and WORLD_SIZE are the
    defaults (0 and 1 without it)."""
    n, chunk = require_integer("n", n, 0), require_chunk(chunk)
    ranks = require_integer("ranks", int(os.environ.get("WORLD_SIZE", 1)) if ranks is None else ranks, 1)
    rank = require_integer("rank", int(os.environ.get("RANK", 0)) if rank is None else rank, 0, ranks - 1)
    chunks = -(-n // chunk)
    first, last = (chunks * r // ranks * chunk for r in (rank, rank + 1))
    return torch.arange(min(first, n), min(last, n), device="cpu")
