"""nearest: k = 5, x and y two sets.  The share is of the 790 TFLOP/s of dense float16 products, not of a copy.

Multiprocessors also wait for L2 here, which the model does not know: a block of 128 x 256 points takes 24 KiB for each 32
features, at some 27 bytes a cycle 890 cycles, in which the products of 6 cycles each take 768.
"""

from ..model import COPY, Launch
from ..table import Row

SETS = ((10_000, 512, 6.4, 10_082), (20_000, 2048, 16.2, 123_936), (50_000, 2048, 15.5, 571_693))
PEAK = 790e6  # operations a microsecond
K, CAPACITY, EXACT = 5, 256, 13  # EXACT: distances of a row in float64, as counted in emulated runs


def up(value: int, to: int) -> int:
    return -(-value // to) * to


def evenly(count: int, most: int, to: int) -> int:
    return up(-(-count // -(-count // most)), to)


def columns(m: int, most: int):
    """How many of y at a time: few at first (pairwise_cuda.cu)."""
    first = 0
    while first < m:
        count = min(CAPACITY if first == 0 else up(3 * first, 256), most, m - first)
        yield count
        first += count


def parts(n: int, most: int):
    for first in range(0, n, most):
        yield min(most, n - first)


def pack(points: int, d: int) -> Launch:
    return Launch(256, points // 8, points * d, d // 32, read=4, write=2, passes=2, turns=d // 256)


def products(rows: int, count: int, units: int) -> Launch:
    marks = {"HMMA": 64 * units, "LDGSTS": 6 * units}
    blocks = up(rows, 128) // 128 * (up(count, 256) // 256)
    return Launch(256, blocks, rows * count, 128, marks=marks, turns=units)


def decide(rows: int, d: int, launches: int) -> Launch:
    turns = EXACT * d // 128
    return Launch(
        256, rows // 8, rows, 1, narrow=4 * EXACT * d, marks={"DADD": 16 * turns}, turns=turns, extra_launches=launches - 1
    )  # fmt: skip


def kernels(n: int, d: int):
    stem = "pairwise_cuda"
    most_x, most_y = evenly(n, min((32 << 20) // (2 * d), 8192), 128), evenly(n, min((16 << 20) // (2 * d), 16384), 256)
    yield stem, "largest_kernel", Launch(256, 1024, 2 * n * d, max(8, 2 * n * d // (1024 * 256)), narrow=4)
    for rows in parts(n, most_x):
        pieces = list(columns(n, most_y))
        yield stem, "pack_kernel", pack(rows, d)
        for count in pieces:
            yield stem, "pack_kernel", pack(count, d)
            yield stem, "products_kernel<2, Candidates>", products(rows, count, d // 32)
        yield stem, "decide_kernel", decide(rows, d, len(pieces))


def rows():
    for n, d, target, measured in SETS:
        least = 2 * n * n * d / PEAK * COPY
        yield Row(f"nearest {K}: {n} x {n} x {d}", least, tuple(kernels(n, d)), target, measured)
