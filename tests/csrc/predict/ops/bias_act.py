"""bias_act, its backward, and that with the gradient of bias: 65,536 tokens of 4,608."""

from ..model import Launch
from ..shapes import TYPES, flat
from ..table import Row

ROWS, WIDTH, UNIT = 65_536, 4_608, 64
MEASURED = {("GeluTanh", "bf16"): 540, ("GeluTanh", "f32"): 651}


def rows():
    elements = ROWS * WIDTH
    for act in ("GeluTanh", "Gelu", "Silu"):
        for dtype, (name, size) in TYPES.items():
            wide, of_bias = 16 // size, 4 // size  # loads of a pack's bias
            of_type = f"Gelu<{name}> " if act == "Gelu" else act
            forward = flat(elements, size, 1, 1, after=of_bias)
            backward = flat(elements, size, 2, 1, after=of_bias)
            # A thread takes a pack of 64 rows; two MUFU an element.
            sums = Launch(
                256, elements // wide // 256 // UNIT, elements, wide * UNIT, 2 * size, narrow=size + 4 / UNIT,
                before=of_bias, store="none", marks={"MUFU": 2 * wide * UNIT}, turns=UNIT,
            )  # fmt: skip
            for what, body, launch, moved, target in (
                ("", "BiasActBody", forward, 2, 88),
                (" backward", "BiasActBackwardBody", backward, 3, 88),
                (" backward, bias too", "BiasActSumsBody", sums, 3, None),
            ):
                kernels = (("bias_act_cuda", f"flat_kernel<{body}<{name}, {of_type}>, {wide}", launch),)
                measured = None if what else MEASURED.get((act, dtype))
                name_of_row = f"bias_act {act}{what} {dtype} ({ROWS}, {WIDTH})"
                yield Row(name_of_row, moved * size * elements, kernels, target, measured)
