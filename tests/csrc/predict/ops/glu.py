"""geglu and swiglu, forward and backward: 65,536 tokens of 4,608."""

from ..shapes import TYPES, flat
from ..table import Row

ROWS, WIDTH = 65_536, 4_608
MEASURED = {("swiglu", "bf16"): 583, ("swiglu", "f32"): 828}


def rows():
    elements = ROWS * WIDTH
    for kind, name in enumerate(("geglu", "swiglu")):
        for dtype, (of_type, size) in TYPES.items():
            wide = 16 // size
            for what, body, read, write in (("", "GluBody", 2, 1), (" backward", "GluBackwardBody", 3, 2)):
                launch = flat(elements, size, read, write)
                kernels = (("glu_cuda", f"flat_kernel<{body}<{of_type}, {kind}>, {wide}", launch),)
                measured = None if what else MEASURED.get((name, dtype))
                least = (read + write) * size * elements
                yield Row(f"{name}{what} {dtype} ({ROWS}, {WIDTH})", least, kernels, 88, measured)
