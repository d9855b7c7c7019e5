"""normal and uniform: 64 images of 3 x 512 x 512, four bytes a value."""

from ..shapes import IMAGES, tiles
from ..table import Row


def rows():
    for what, kind, marks, target, measured in (("normal", 0, {"MUFU.RSQ": 4}, 56, 121), ("uniform", 1, {}, None, 76)):
        launch = tiles(write=4, marks=marks)
        kernels = (("noise_cuda", f"map_kernel<NoiseBody<float, {kind}>, true>", launch),)
        yield Row(f"{what} f32 (64, 3, 512, 512)", 4 * IMAGES, kernels, target, measured)
