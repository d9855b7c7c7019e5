"""kernel_sums: the share is of 64 float64 operations a cycle and multiprocessor, 33.5 TFLOP/s, not of a copy."""

from ..model import ANY, COPY, Launch
from ..table import Row

N, D, SIDE, SEGMENT, STAGE = 16_384, 2048, 64, 4096, 32
PEAK = 33.5e6 / 2  # fused products, or other operations, a microsecond


def rows():
    turns = SEGMENT // SIDE * D // STAGE
    for name, kernel, each in (("polynomial", "Polynomial", 1), ("rbf", "Rbf", 2)):
        launch = Launch(
            128, N // SIDE * (N // SEGMENT), N * N, 32 * SEGMENT // SIDE, turns=turns,
            marks={"DFMA": 32 * STAGE * turns, ANY + r"LDG\S*\.128": 8 * turns},
        )  # fmt: skip
        kernels = (("kernel_sums_cuda", f"sum_segment<{kernel}, true>", launch),)
        yield Row(f"kernel_sums {name}: {N} x {N} x {D}", each * N * N * D / PEAK * COPY, kernels)
