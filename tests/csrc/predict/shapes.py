"""What several descriptions share."""

from .model import Launch

IMAGES = 64 * 3 * 512 * 512  # values
LAYOUTS = "NCHW", "NHWC"
TYPES = {"f32": ("float", 4), "bf16": ("BFloat16", 2)}


def tiles(read=0, write=0, marks=None, before=0, blocks=24576, elements=IMAGES, per_thread=8, **more):
    """Of the map driver: a thread takes one tile."""
    return Launch(256, blocks, elements, per_thread, read, write, before=before, marks=marks or {}, **more)


def flat(elements, size, read, write, **more):
    """Of the flat driver: a thread takes 16 bytes of each of `read` tensors and makes them of each of `write`."""
    wide = 16 // size
    return Launch(256, elements // wide // 256, elements, wide, read * size, write * size, **more)
