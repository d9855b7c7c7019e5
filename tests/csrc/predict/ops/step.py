"""step: 64 states of 3 x 512 x 512; ODE, DDPM, and with one slot of history."""

from ..model import ANY
from ..shapes import IMAGES, TYPES, tiles
from ..table import Row

import os; PACKS = int(os.environ.get("NP", 2))


def rows():
    for what, dtype, slots, noise, bytes_each, target, measured in (
        ("ODE", "f32", 0, 0, 12, 92, 153),
        ("ODE, next input", "bf16", 0, 0, 12, None, 159),
        ("DDPM", "f32", 0, 1, 12, 86, 204),
        ("1 slot", "f32", 1, 0, 20, 92, 354),
        ("1 slot and noise", "f32", 1, 1, 20, 88, 478),
    ):
        name, size = TYPES[dtype]
        marks = {"MUFU.RSQ": 32 * noise}
        more = dict(read=8 + 4 * slots, write=4 + 4 * slots)
        if size == 2:
            more = dict(read=4, write=4, narrow=4)
            marks |= {ANY + r"LDG\S*\.64": 16, ANY + r"STG\S*\.64": 16}
        # The row's coefficients, its code and, of a slot, four numbers are read 16 bytes at a time.
        launch = tiles(
            marks=marks, before=1 + (slots > 0), blocks=3072, per_thread=64, turns=64 // (4*PACKS if noise else 8), **more
        )
        kernels = (("step_cuda", f"map_kernel<StepBody<{name}, {slots}, {str(bool(noise)).lower()}>", launch),)
        yield Row(f"step {what} {dtype} (64, 3, 512, 512)", bytes_each * IMAGES, kernels, target, measured)
