"""residual: x + (y + bias) of images, both layouts."""

from ..model import Launch
from ..shapes import TYPES
from ..table import Row

SHAPE = (64, 256, 64, 64)


def launch(elements: int, size: int, last: bool) -> Launch:
    """Of 16 bytes a thread; where channels are neighbors each has a bias of its own."""
    per_thread = 16 // size
    biases = per_thread // 4 if last else 0
    return Launch(256, elements // per_thread // 256, elements, per_thread, 2 * size, size, after=biases)


def rows():
    batch, channels, height, width = SHAPE
    elements = batch * channels * height * width
    for dtype, (name, size) in TYPES.items():
        for layout in ("NCHW", "NHWC"):
            kernel = f"flat_kernel<ResidualBody<{name}>, {16 // size}"
            kernels = (("residual_cuda", kernel, launch(elements, size, layout == "NHWC")),)
            yield Row(f"residual {dtype} {SHAPE} {layout}", 3 * size * elements, kernels, 88)
