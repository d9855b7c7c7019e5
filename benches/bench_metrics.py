"""Distances between all pairs of two sets of features, which metrics are made of, against the matrix of torch.cdist.

`mm` is the products alone, in float32: what any method of float32 pays at least. A line ends with the memory that a
process needs beside the features, measured in one of its own:  python benches/bench_metrics.py CASE PROVIDER
"""

import functools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import peers
import torch
from timing import Bench
from torch import Tensor

from genfast import ops

SHAPE, QUICK_SHAPE = (10_000, 512), (100, 16)  # of both sets
GPU_SHAPES = (SHAPE, (20_000, 2048))
MORE = {"nearest": (50_000, 2048)}  # of FID's sets, where the matrix of torch's still fits a GPU
K = 5


def names() -> list[str]:
    return ["copy", *CASES]


def benches(wanted: list[str], device: torch.device, quick: bool, compiled: bool) -> Iterator[Callable[[], Bench]]:
    """The benches of the cases in `wanted`, each to be made when its turn comes."""
    for name in wanted:
        if name == "copy":
            yield lambda: peers.large_copy(device, quick)
            continue
        for shape in _shapes(name, device, quick):
            yield functools.partial(_bench, name, shape, device, quick)


def _shapes(name: str, device: torch.device, quick: bool) -> list[tuple[int, int]]:
    if quick or device.type == "cpu":
        return [QUICK_SHAPE if quick else SHAPE]
    return [*GPU_SHAPES, *[MORE[name]] * (name in MORE)]


def _bench(name: str, shape: tuple[int, int], device: torch.device, quick: bool) -> Bench:
    matrices, providers = CASES[name]
    args = {key: t.to(device) for key, t in _sets(shape).items()}
    notes = (
        {}
        if quick or device.type != "cpu" or sys.platform != "linux"
        else {p: f"{peak(name, p):5d} MiB" for p in providers}
    )
    moved, flops = sum(t.nbytes for t in args.values()), matrices * 2 * shape[0] ** 2 * shape[1]
    return Bench(name, shape, torch.float32, moved, args, providers, (flops * 1e-9, "GFLOP"), notes)


def _sets(shape: tuple[int, int]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sets = {name: torch.randn(shape, generator=generator) for name in ("x", "y")}
    # About as many in a ball as there are neighbors: distances have mean 2 D and variance 8 D.
    return sets | {"radius": torch.full(shape[:1], 2.0 * shape[1] - 3 * (8.0 * shape[1]) ** 0.5, dtype=torch.float64)}


def peak(case: str, provider: str) -> int:
    """MiB that one call needs beside its arguments."""
    command = [sys.executable, __file__, case, provider]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _report_peak(case: str, provider: str) -> None:
    function = CASES[case][1][provider]
    function(**_sets(QUICK_SHAPE))
    args = _sets(SHAPE)
    before = _peak_kib()
    function(**args)
    print((_peak_kib() - before) >> 10)


def _peak_kib() -> int:
    """Of this process; what getrusage has began with its parent's."""
    return int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])


def _nearest(x, y, radius):
    return ops.nearest(x, y, K)


def _balls(x, y, radius):
    return ops.balls(x, y, radius, radius)


def _kernel_sums(x, y, radius, kernel):
    return ops.kernel_sums(x, y, kernel=kernel, gamma=1 / x.shape[1])


def _prdc(x, y, radius):
    """Precision, recall, density and coverage need the radii of both sets, and who lies in whose ball."""
    radii = [ops.nearest(t, t, K, exclude_self=True).distance[:, -1].contiguous() for t in (x, y)]
    return ops.balls(x, y, *radii)


def _cdist_nearest(x, y, radius):
    return torch.topk(torch.cdist(x, y), K, largest=False)


def _inside(distances, radius_x, radius_y):
    in_x, in_y = distances <= radius_x[:, None], distances <= radius_y
    return in_x.sum(1), in_x.sum(0), in_y.sum(0), in_y.sum(1)


def _cdist_balls(x, y, radius):
    return _inside(torch.cdist(x, y), *[radius.sqrt().float()] * 2)


def _cdist_prdc(x, y, radius):
    radii = [torch.cdist(t, t).kthvalue(K + 1).values for t in (x, y)]
    return _inside(torch.cdist(x, y), *radii)


def _mm_polynomial(x, y, radius):
    values = torch.addmm(x.new_ones(()), x, y.T, alpha=1 / x.shape[1]).pow_(3)
    return values.sum(1), values.square_().sum(1)


def _cdist_rbf(x, y, radius):
    values = torch.cdist(x, y).square_().mul_(-1 / x.shape[1]).exp_()
    return values.sum(1), values.square_().sum(1)


def _mm(x, y, radius):
    return x @ y.T


# The matrices that a case goes through, and who does it.
CASES = {
    "nearest": (1, {"genfast": _nearest, "cdist_topk": _cdist_nearest, "mm": _mm}),
    "balls": (1, {"genfast": _balls, "cdist": _cdist_balls}),
    "prdc": (3, {"genfast": _prdc, "cdist": _cdist_prdc}),
    "kernel_sums_polynomial": (
        1,
        {"genfast": functools.partial(_kernel_sums, kernel="polynomial"), "addmm": _mm_polynomial},
    ),
    "kernel_sums_rbf": (1, {"genfast": functools.partial(_kernel_sums, kernel="rbf"), "cdist": _cdist_rbf}),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    _report_peak(*sys.argv[1:])
