"""residual: x + (y + bias) of images, both layouts."""

from ..shapes import TYPES, flat
from ..table import Row

SHAPE = (64, 256, 64, 64)


def rows():
    batch, channels, height, width = SHAPE
    elements = batch * channels * height * width
    for dtype, (name, size) in TYPES.items():
        for layout in ("NCHW", "NHWC"):
            kernel = f"flat_kernel<ResidualBody<{name}>, {16 // size}"
            biases = 4 // size if layout == "NHWC" else 0  # channels are neighbors, and each has a bias of its own
            kernels = (("residual_cuda", kernel, flat(elements, size, 2, 1, after=biases)),)
            yield Row(f"residual {dtype} {SHAPE} {layout}", 3 * size * elements, kernels, 88)
