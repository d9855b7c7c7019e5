"""diffuse: 64 images of 3 x 512 x 512."""

from ..model import ANY
from ..shapes import IMAGES, TYPES, tiles
from ..table import Row

PACKS = 4  # of a thread (csrc/kernels/diffuse_body.h)


def rows():
    for what, target, measured in (("f32", 82, 133), ("bf16", 70, 133)):
        name, size = TYPES[what]
        write = {"write": 4} if size == 4 else {"narrow": 2}
        marks = {"MUFU.RSQ": 32} | ({ANY + r"STG\S*\.64": 16} if size == 2 else {})
        launch = tiles(read=4, marks=marks, blocks=3072, per_thread=64, turns=16 // PACKS, **write)
        kernels = (("diffuse_cuda", f"map_kernel<DiffuseBody<{name}, false>", launch),)
        yield Row(f"diffuse {what} (64, 3, 512, 512)", (4 + size) * IMAGES, kernels, target, measured)
