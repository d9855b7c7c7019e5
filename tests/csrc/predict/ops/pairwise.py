"""nearest, k = 5, and balls as small as those.  x and y are two sets.  The share is of the 790 TFLOP/s of dense float16
products, not of a copy.

Multiprocessors also wait for L2 here, which the model does not know: a block of 128 x 256 points takes 24 KiB for each
32 features, at some 27 bytes a cycle 890 cycles, in which the products of 6 cycles each take 768.
"""

from ..model import COPY, Launch
from ..table import Row

SETS = ((10_000, 512, 6.6, 10_082), (20_000, 2048, 16.2, 123_936), (50_000, 2048, 15.5, 571_693))
PEAK = 790e6  # operations a microsecond
K, CAPACITY, EXACT = 5, 256, 14  # EXACT: distances of a row in float64, as counted in emulated runs


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


def products(rows: int, count: int, units: int, across: int) -> Launch:
    marks = {"HMMA": 64 * units, "LDGSTS": (4 + 4 * across) // across * units}
    blocks = up(rows, 128) // 128 * (up(count, 128 * across) // (128 * across))
    return Launch(128 * across, blocks, rows * count, 128, marks=marks, turns=units)


def exact(rows: int, d: int, each: int, launches: int) -> Launch:
    """Two distances at a time, each adding a feature in 16."""
    turns = each * d // 256
    marks = {"DADD": 32 * turns}
    return Launch(256, rows // 8, rows, 1, narrow=4 * each * d, marks=marks, turns=turns, extra_launches=launches - 1)


def kernels(n: int, d: int, balls: bool):
    stem, most = "pairwise_cuda", 16384 if balls else 8192
    multiply, across = ("products_kernel<1, Balls>", 1) if balls else ("products_kernel<2, Candidates>", 2)
    most_x = evenly(n, min((32 << 20) // (2 * d), most), 128)
    left = ((48 << 20) - 2 * d * most_x >> 20 << 20) // (2 * d) // 256 * 256
    most_y = evenly(n, min(left, (128 << 20) // most_x if balls else 65536), 256)
    yield stem, "largest_kernel", Launch(256, 1024, 2 * n * d, 2 * n * d // (1024 * 256), narrow=4)
    for rows in parts(n, most_x):
        pieces = list(parts(n, most_y) if balls else columns(n, most_y))
        yield stem, "pack_kernel", pack(rows, d)
        for count in pieces:
            yield stem, "pack_kernel", pack(count, d)
            yield stem, multiply, products(rows, count, d // 32, across)
        yield stem, "open_kernel" if balls else "decide_kernel", exact(rows, d, 2 if balls else EXACT, len(pieces))


def rows():
    for n, d, target, measured in SETS:
        least = 2 * n * n * d / PEAK * COPY
        yield Row(f"nearest {K}: {n} x {n} x {d}", least, tuple(kernels(n, d, False)), target, measured)
    yield Row("balls: 20000 x 20000 x 2048", 2 * 20000**2 * 2048 / PEAK * COPY, tuple(kernels(20000, 2048, True)))
