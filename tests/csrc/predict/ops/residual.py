"""residual: x + (y + bias) of images, both layouts."""

import math

from ..shapes import LAYOUTS, TYPES, flat
from ..table import Row

SHAPE = (64, 256, 64, 64)


def forward(dtype, shape, last):
    name, size = TYPES[dtype]
    biases = 4 // size if last else 0  # channels are neighbors, and each has a bias of its own
    launch = flat(math.prod(shape), size, 2, 1, after=biases)
    return ("residual_cuda", f"flat_kernel<ResidualBody<{name}>, {16 // size}", launch)


def rows():
    for dtype, (_, size) in TYPES.items():
        for last, layout in enumerate(LAYOUTS):
            kernels = (forward(dtype, SHAPE, last),)
            yield Row(f"residual {dtype} {SHAPE} {layout}", 3 * size * math.prod(SHAPE), kernels, 88)
