"""What our kernels take of a network's forward: norms and sums, which with torch's kernels are nearly all of it."""

import math

from ..model import COPY, NEXT_US
from ..shapes import TYPES
from ..table import Row
from . import group_norm_act, residual

BATCH, DTYPE, LAST = 256, "bf16", True
# Of DDPM-CIFAR (35.7 M): (channels, pixels): how many.
NORMS = {
    (128, 1024): 8, (256, 1024): 2, (384, 1024): 1, (128, 256): 1, (256, 256): 11, (384, 256): 1, (512, 256): 2,
    (256, 64): 7, (512, 64): 3, (256, 16): 12, (512, 16): 3,
}  # fmt: skip
SUMS = {(128, 1024): 5, (256, 256): 10, (256, 64): 5, (256, 16): 8}
# Milliseconds of an H200, 27 November 2026: convolutions 3.9 and 0.5, cat 0.9, linear 0.5, attention 0.3; and, by their
# bytes, twelve copies around attentions and eight biases of convolutions.
TORCH_MS, COPIES_MS = 6.1, 0.35
SMALL = 53  # launches of small tensors, as `benches/run.py launches` counts them on "meta": sums of tables and weights
WANTED_MS = 10


def rows():
    def shape(channels, pixels):
        side = math.isqrt(pixels)
        return BATCH, channels, side, side

    kernels, moved = [], 0
    for sizes, count in NORMS.items():
        launches = group_norm_act.forward(DTYPE, shape(*sizes), LAST)
        kernels += count * [(group_norm_act.STEM, *launch) for launch in launches]
        moved += count * 2 * math.prod(shape(*sizes))
    for sizes, count in SUMS.items():
        kernels += count * [residual.forward(DTYPE, shape(*sizes), LAST)]
        moved += count * 3 * math.prod(shape(*sizes))
    moved *= TYPES[DTYPE][1]
    left = 1e3 * (WANTED_MS - TORCH_MS - COPIES_MS) - SMALL * NEXT_US
    yield Row(f"DDPM-CIFAR {DTYPE} ({BATCH}), ours", moved, tuple(kernels), 100 * moved / left / COPY, 7800)
