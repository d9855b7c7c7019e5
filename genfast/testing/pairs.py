"""The cases of the ops over all pairs of two sets: x is a batch, y a set of its own that all of x is held against."""

from collections.abc import Callable

import torch

from .. import ops
from .case import Case, base

_SHAPES = ((4096, 512), (2048, 2048))


def _sets(shape, generator, least: int) -> dict:
    """As many of y as of x, but `least`; enough for a GPU to share them out where that costs little."""
    batch, _, randn = base(shape, generator)
    features = torch.Size(shape[1:]).numel()
    least = least if features > 7 else 600
    return {"x": randn(batch, features), "y": randn(max(least, batch), features)}


def _nearest() -> Case:
    def eager(x, y):
        found = torch.topk(torch.cdist(x, y), 5, largest=False)
        return found.values.square().double(), found.indices

    return Case(
        "nearest", lambda shape, dtype, generator: _sets(shape, generator, 70),
        lambda x, y: tuple(ops.nearest(x, y, 5)), eager, lambda n, item: 8 * n, dtypes=(torch.float32,),
        shared=("y",), layouts="contiguous", shapes=_SHAPES,
    )  # fmt: skip


def _balls() -> Case:
    def inputs(shape, dtype, generator):
        sets = _sets(shape, generator, 60)
        spread = {
            n: 1 + 0.2 * torch.rand(len(sets[n]), generator=generator, dtype=torch.float64, device="cpu")
            for n in ("x", "y")
        }
        return sets | {f"radius_{name}": 1.8 * sets["x"].shape[1] * by for name, by in spread.items()}

    def op(**args):
        found = ops.balls(**args)
        return found.in_x, found.over_x

    def eager(x, y, radius_x, radius_y):
        squared = torch.cdist(x, y).square()
        return (squared <= radius_x[:, None]).sum(1), (squared <= radius_y).sum(1)

    return Case(
        "balls", inputs, op, eager, lambda n, item: 8 * n, dtypes=(torch.float32,), shared=("y", "radius_y"),
        layouts="contiguous", shapes=_SHAPES,
    )  # fmt: skip


def _kernel_sums(kernel: str, eager: Callable) -> Case:
    def inputs(shape, dtype, generator):
        sets = _sets(shape, generator, 70)
        return sets | {"kernel": kernel, "gamma": 1 / max(1, sets["x"].shape[1])}

    def sums(x, y, kernel, gamma):
        values = eager(x, y, gamma)
        return values.sum(1).double(), values.square().sum(1).double()

    return Case(
        f"kernel_sums_{kernel}", inputs, lambda **a: tuple(ops.kernel_sums(**a)), sums, lambda n, item: 8 * n,
        dtypes=(torch.float32,), shared=("y", "kernel", "gamma"), layouts="contiguous", shapes=_SHAPES,
    )  # fmt: skip


CASES = (
    _nearest(),
    _balls(),
    _kernel_sums("polynomial", lambda x, y, gamma: (gamma * x @ y.T + 1) ** 3),
    _kernel_sums("rbf", lambda x, y, gamma: torch.exp(-gamma * torch.cdist(x, y).square())),
)
