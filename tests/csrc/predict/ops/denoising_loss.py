"""denoising_loss and its backward: 64 images of 3 x 512 x 512."""

from ..model import ANY, Launch
from ..shapes import IMAGES, TYPES, tiles
from ..table import Row

CHUNKS = 3 * 512 * 512 // 2048  # of an image (csrc/math/sum.h)


def forward(name, size):
    """A warp sums 2,048 elements, a thread four packs of four in each of four turns; then one adds a row's chunks."""
    marks = {"MUFU.RSQ": 32} | ({ANY + r"LDG\S*\.64": 2 + 16} if size == 2 else {})
    read = {"read": 8} if size == 4 else {"read": 4, "narrow": 2}
    main = Launch(256, 64 * CHUNKS // 8, IMAGES, 64, store="none", marks=marks, turns=4, once={"SHFL": 8}, **read)
    finish = Launch(256, 8, 0, 0, marks={ANY + r"LDS\S*128": CHUNKS // 4, ANY + r"LDG\.E$": CHUNKS // 32 + 1})
    return (
        ("denoising_loss_cuda", f"reduce_kernel<DenoisingLossBody<{name}>", main),
        ("denoising_loss_cuda", f"finish_kernel<DenoisingLossBody<{name}>", finish),
    )


def backward(name, size):
    launch = tiles(read=size, write=size, blocks=3072, per_thread=64, turns=2 * size)  # two packs of 16 bytes a turn
    return (("denoising_loss_cuda", f"map_kernel<DenoisingLossBackwardBody<{name}>", launch),)


def rows():
    for dtype, measured in (("f32", 161), ("bf16", 163)):
        name, size = TYPES[dtype]
        target = 77 if size == 4 else None
        yield Row(
            f"denoising_loss {dtype} (64, 3, 512, 512)", (4 + size) * IMAGES, forward(name, size), target, measured
        )
        yield Row(f"denoising_loss backward {dtype} (64, 3, 512, 512)", 2 * size * IMAGES, backward(name, size), 77)
