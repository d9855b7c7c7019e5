"""group_norm_act: maps of 32 groups, and SiLU, both layouts; cut as csrc/kernels/group_norm_act_split.h cuts them."""

import functools
import math
from dataclasses import dataclass

from ..model import ANY, CACHE_BYTES, SMS, Launch
from ..shapes import LAYOUTS, TYPES
from ..table import Row

STEM, GROUPS, CLUSTER = "group_norm_act_cuda", 32, 8
SHAPES = {  # %: forward; backward of each layout
    ("bf16", 64, 256, 64, 64): (80, 74, 70), ("f32", 64, 256, 64, 64): (88, 88, 88),
    ("bf16", 8, 512, 128, 128): (80, 74, 70), ("f32", 8, 512, 128, 128): (88, 88, 88),
    ("bf16", 256, 128, 32, 32): (74, 68, 68), ("f32", 256, 128, 32, 32): (86, 84, 84),
    ("bf16", 256, 256, 16, 16): (65, 60, 60), ("bf16", 1, 128, 20, 256, 256): (63, None, None),
}  # fmt: skip
MEASURED = {  # us, of each layout
    ("bf16", 64, 256, 64, 64): (237, 300), ("f32", 64, 256, 64, 64): (301, 304), ("bf16", 8, 512, 128, 128): (221, 366),
    ("bf16", 256, 128, 32, 32): (160, 155), ("bf16", 256, 256, 16, 16): (181, 96),
    ("bf16", 1, 128, 20, 256, 256): (599, None),
}  # fmt: skip


@dataclass
class Cut:
    """Of a sample: blocks, and what each has."""

    threads: int
    packs: int  # of a thread, at a time
    loads: int  # times
    parts: int  # blocks of a group or a slab
    units: int  # groups or slabs
    channels: int  # of a block


def up(a, b):
    return -(-a // b)


def whole_groups(threads, packs, loads, channels, pixels, wide):
    per_group, per_channel = channels // GROUPS, pixels // wide
    slices = up(per_channel, threads * packs * loads)
    per_slice = up(per_channel, slices)
    fitting = 1 if slices > 1 else threads * packs * loads // per_slice
    own = up(per_group, up(per_group, fitting))
    return Cut(up(own * per_slice, packs * loads * 32) * 32, packs, loads, up(per_group, own) * slices, GROUPS, own)


def slabs(threads, packs, loads, channels, pixels, wide):
    """Of whole groups and whole packs; a group is a half of a pack, or some.  The backward, of 4 packs, sums channels,
    the forward halves of packs."""
    slab = max(4 * wide, channels // GROUPS)
    most = channels if packs == 4 else min(channels, 16 * wide)
    while 2 * slab <= most and threads * wide // (2 * slab) * packs * loads >= pixels:
        slab *= 2
    parts = up(pixels, threads * wide // slab * packs * loads)
    return Cut(threads, packs, loads, parts, channels // slab, slab)


def cut(blocks, size, shape, last):
    """The first that needs one block, and loads once; else a cluster; else the first."""
    pixels = math.prod(shape[2:])
    found = [(slabs if last else whole_groups)(*block, shape[1], pixels, 16 // size) for block in blocks]
    alone = (c for c in found if c.parts == 1 and c.loads == 1)
    return next(alone, next((c for c in found if c.parts <= CLUSTER), found[0]))


def guarded(marks):
    return {ANY + pattern: count for pattern, count in marks.items()}


def launches(kernel, found, marks, told, critical, inputs, shape, size, shared, warps):
    """One: of a block or a cluster a group, or of blocks that sum and others that read again, from the cache.  `told`:
    marks where parts meet; `warps`: of a multiprocessor."""
    elements, each = math.prod(shape), found.packs * found.loads * 16 // size
    silu = {"MUFU.EX2": each, "MUFU.RCP": each}
    launch = functools.partial(
        Launch, found.threads, shape[0] * found.units * found.parts, elements, each, shared=shared
    )
    read = inputs * size
    if found.parts <= CLUSTER:
        met, critical = (told, critical) if found.parts > 1 else ({}, {})
        once = launch(read, size, marks=guarded(silu | marks | met), critical=guarded(critical))
        return [(f"{kernel}, Once>", once)]
    first = (silu if inputs > 1 else {}) | marks | {"ATOM": 1}
    sums = launch(read, extra_launches=1, marks=guarded(first))  # zeros for the counters
    ahead = up(SMS * warps * 32 // found.threads, 2 * found.parts)
    window = ((2 * ahead + 1) * inputs + ahead) * size * elements / shape[0] / found.units
    missed = max(0.0, 1 - CACHE_BYTES / window)
    again = launch(0, size, missed * read, before=inputs * found.packs, marks=guarded(silu | {r"LDG\S*STRONG": 1}))
    return [(f"{kernel}, Twice>", sums, again)]


def forward(dtype, shape, last):
    name, size = TYPES[dtype]
    found = cut(((256, 16, 1), (512, 16, 1)) if last else ((512, 8, 1), (1024, 8, 1)), size, shape, last)
    each = found.packs * 16 // size
    if last:
        kernel = f"halves_kernel<{name}, {found.threads}, 16, {512 // found.threads}"
        columns = found.channels * size // 16
        shared = columns * (16 + found.threads // 2) + 8 * found.channels
        rows = 5 - columns.bit_length()  # shuffles over a column's rows of a warp, less one
        marks, told = {"SHFL": 2 * (2 * rows + 3)}, {"SHFL": 2 * (2 * rows + 3) + 2 * (rows + 2), r"LD\.E": 1}
    else:
        kernel, shared = f"group_kernel<{name}, true", 8 * found.channels
        marks, told = {"SHFL": 20}, {"SHFL": 30, r"LD\.E": 2}
    # A mean is taken off of all values twice; else the walk goes round the squares, as threads without a pack do.
    marks |= {"FADD": (4 if found.parts <= CLUSTER else 2) * each}
    if size == 2:  # the sums are tensor cores'
        marks |= {"FADD": marks["FADD"] - each, "HMMA": found.packs}
    return launches(kernel, found, marks, told, {}, 1, shape, size, shared, 16 if last else 32)


def backward(dtype, shape, last):
    name, size = TYPES[dtype]
    found = cut(((256, 4, 1), (256, 4, 2), (256, 4, 4), (512, 4, 4)), size, shape, last)
    waiting = 2 * found.packs * (found.loads - 1)  # packs of x and of du in shared memory
    if last:
        kernel = f"slab_backward_kernel<{name}"
        shared = 4 * (found.threads * 16 // size + max(found.threads, found.channels) + 6 * found.channels)
        marks, told = {r"STS\S*\.128": 8 // size, "LDS": {2: 64, 4: 20}[size]}, {}
        shared += waiting * found.threads * 16
        critical = {"SHFL": 10, r"LD\.E": 8}
    else:
        kernel = f"group_backward_kernel<{name}, true"
        shared = 8 * found.channels + found.threads * (16 * waiting or 8 * found.packs)
        marks, told, critical = {"SHFL": 14, "LDS": found.packs * found.loads}, {"SHFL": 21}, {}
    if waiting:
        marks[r"STS\S*\.128"] = marks.get(r"STS\S*\.128", 0) + waiting
        marks[r"LDS\S*\.128"] = waiting
    return launches(kernel, found, marks, told, critical, 2, shape, size, shared, 16 if last else 24)


def rows():
    for (dtype, *sizes), (target, *targets) in SHAPES.items():
        shape, size = tuple(sizes), TYPES[dtype][1]
        measured, moved = MEASURED.get((dtype, *shape), (None, None)), size * math.prod(shape)
        for last, layout in enumerate(LAYOUTS[: 2 if len(shape) == 4 else 1]):
            what = f"{dtype} {shape} {layout}"
            kernels = tuple((STEM, *launch) for launch in forward(dtype, shape, last))
            yield Row(f"group_norm_act {what}", 2 * moved, kernels, target, measured[last])
            if targets[last]:
                kernels = tuple((STEM, *launch) for launch in backward(dtype, shape, last))
                yield Row(f"group_norm_act backward {what}", 3 * moved, kernels, targets[last])
