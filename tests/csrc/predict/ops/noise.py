"""normal and uniform: 64 images of 3 x 512 x 512, four bytes a value."""

from ..shapes import IMAGES, tiles
from ..table import Row

PACKS = 4  # of a thread (csrc/kernels/noise_body.h)


def rows():
    for what, kind, rsq, target, measured in (("normal", 0, 2, 56, 121), ("uniform", 1, 0, None, 76)):
        launch = tiles(write=4, marks={"MUFU.RSQ": 16 * rsq}, blocks=3072, per_thread=64, turns=16 // PACKS)
        kernels = (("noise_cuda", f"map_kernel<NoiseBody<float, {kind}>", launch),)
        yield Row(f"{what} f32 (64, 3, 512, 512)", 4 * IMAGES, kernels, target, measured)
