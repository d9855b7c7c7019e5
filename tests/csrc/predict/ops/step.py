"""step: 64 states of 3 x 512 x 512; ODE, DDPM, and with one slot of history."""

from ..model import ANY
from ..shapes import IMAGES, TYPES, tiles
from ..table import Row

PACKS = 2  # of a thread at a time (csrc/kernels/step_body.h); it takes 64 elements in all


def rows():
    for what, dtype, slots, noise, target, measured in (
        ("ODE", "f32", 0, 0, 92, 153),
        ("ODE, next input", "bf16", 0, 0, None, 159),
        ("DDPM", "f32", 0, 1, 86, 204),
        ("1 slot", "f32", 1, 0, 92, 354),
        ("1 slot and noise", "f32", 1, 1, 88, 478),
    ):
        name, size = TYPES[dtype]
        if size == 2:
            marks, moved = {ANY + r"LDG\S*\.64": 16, ANY + r"STG\S*\.64": 16}, {"read": 4, "write": 4, "narrow": 4}
        else:
            marks, moved = {"MUFU.RSQ": 32 * noise}, {"read": 8 + 4 * slots, "write": 4 + 4 * slots}
        # Read 16 bytes at a time: four of the row's coefficients and, with slots, its code.
        launch = tiles(blocks=3072, per_thread=64, turns=16 // PACKS, before=1 + (slots > 0), marks=marks, **moved)
        kernel = f"map_kernel<StepBody<{name}, {slots}, {str(bool(noise)).lower()}>"
        least = sum(moved.values()) * IMAGES
        yield Row(f"step {what} {dtype} (64, 3, 512, 512)", least, (("step_cuda", kernel, launch),), target, measured)
