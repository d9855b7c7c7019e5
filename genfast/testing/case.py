"""What a Case is, and what its inputs are made with."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import ops

Args = dict


@dataclass(frozen=True)
class Case:
    """`inputs(shape, dtype, generator)` makes the arguments, on the CPU and contiguous; the others take them as
    keywords.

    op: what is tested, a tuple of tensors; in-place ops work on copies that the caller makes.  eager: the same in plain
    torch, in the dtype of its arguments, which is also the reference when they are float64.  dtypes: of the network's
    edge.  differentiable: names of arguments with a gradient.  bytes_moved(size, item): of `size` elements whose
    network edge takes `item` bytes each, the least that any implementation reads and writes.  shared: arguments that
    are not per sample.  layouts: what channels-last inputs give: "exact", the bits of contiguous ones; "rounding", the
    same but for the order of sums; "contiguous", such inputs are not taken.  contract: what a GPU gives: "bits", those
    of the CPU; "error", at most twice the error of torch's own against float64, the same bits in every run and for a
    row in any batch.  shapes, gpu_shapes: to time on a CPU, and on a GPU, which they fill; None for the bench's own.
    """

    name: str
    inputs: Callable[..., Args]
    op: Callable[..., tuple[Tensor, ...]]
    eager: Callable[..., tuple[Tensor, ...]]
    bytes_moved: Callable[[int, int], int]
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16, torch.float16)
    differentiable: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    layouts: str = "exact"
    contract: str = "bits"
    shapes: tuple[tuple[int, ...], ...] | None = None
    gpu_shapes: tuple[tuple[int, ...], ...] | None = None

    def rows(self, args: Args, rows: slice | Tensor) -> Args:
        """The arguments of these rows of the batch, in any order and as often as they are named."""
        shared = {name: args[name] for name in ("table", *self.shared) if name in args}
        stacked = {name: args[name][:, rows].clone() for name in ("history", "k", "averages") if name in args}
        rest = {name: value for name, value in args.items() if name not in shared and name not in stacked}
        return to(rest, lambda t: t[rows]) | shared | stacked


def to(args: Args, convert: Callable[[Tensor], Tensor]) -> Args:
    """The arguments with every tensor converted; tuples and lists are gone through."""

    def one(value):
        if isinstance(value, Tensor):
            return convert(value)
        if isinstance(value, tuple | list):
            values = [one(v) for v in value]
            return type(value)(*values) if hasattr(value, "_fields") else type(value)(values)
        return value

    return {name: one(value) for name, value in args.items()}


def base(shape: tuple[int, ...], generator: torch.Generator) -> tuple[int, Tensor, Callable[..., Tensor]]:
    batch = shape[0]
    index = torch.randint(0, 2**40, (batch,), generator=generator, device="cpu")
    key = ops.make_key(int(torch.randint(0, 2**62, (), generator=generator, device="cpu")), index)
    return batch, key, lambda *size: torch.randn(size, generator=generator, device="cpu")
