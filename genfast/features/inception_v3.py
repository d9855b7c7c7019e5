"""The Inception-v3 that FID is defined by: that of the TensorFlow graph of 2015-12-05, and what it does to its input.

Szegedy et al. 2016, arXiv:1512.00567, with what is its own: borders are left out of average pools, the last block pools
by the maximum, norms have epsilon 1e-3, and there are 1008 classes. Parameters are named as in the weight files.
"""

import torch
import torch.nn.functional as F
from torch import nn

SIZE = 299  # of the images that it sees


class Inception(nn.Module):
    """x: (B, 3, 299, 299) in [-1, 1] -> (B, 2048), the mean over the last map.

    classify: whether there is the last layer too, `fc`, which gives logits of 1008 classes.
    """

    def __init__(self, classify=True):
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, (3, 3), stride=2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, (3, 3))
        self.Conv2d_2b_3x3 = _Conv(32, 64, (3, 3), padding="same")
        self.Conv2d_3b_1x1 = _Conv(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = _Conv(80, 192, (3, 3))
        width = 192
        for name, branches in MIXED.items():
            block = _Mixed(width, branches)
            width = block.outputs
            self.add_module(name, block)
        self.fc = nn.Linear(width, 1008) if classify else None

    def forward(self, x):
        x = _halve(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = _halve(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        for name in MIXED:
            x = getattr(self, name)(x)
        return x.mean((2, 3))


class _Conv(nn.Module):
    """ReLU(BatchNorm(w * x))."""

    def __init__(self, inputs, outputs, kernel, **options):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, bias=False, **options)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x):
        return self.bn(self.conv(x)).relu_()


class _Mixed(nn.Module):
    """Branches side by side, their maps one after the other.

    branches: of each its steps, one after the other: a pool, or convolutions side by side, each (name, outputs, kernel,
    options).
    """

    def __init__(self, inputs, branches):
        super().__init__()
        self.branches, self.outputs = [], 0
        for branch in branches:
            width, steps = inputs, []
            for step in branch:
                if callable(step):
                    steps.append(step)
                    continue
                for name, outputs, kernel, options in step:
                    self.add_module(name, _Conv(width, outputs, kernel, **options))
                steps.append([name for name, *_ in step])
                width = sum(outputs for _, outputs, *_ in step)
            self.branches.append(steps)
            self.outputs += width

    def forward(self, x):
        return torch.cat([self._run(steps, x) for steps in self.branches], 1)

    def _run(self, steps, x):
        for step in steps:
            x = step(x) if callable(step) else torch.cat([getattr(self, name)(x) for name in step], 1)
        return x


def _average(x):
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _maximum(x):
    return F.max_pool2d(x, 3, stride=1, padding=1)


def _halve(x):
    return F.max_pool2d(x, 3, stride=2)


def _same(name, outputs, height, width):
    return name, outputs, (height, width), {"padding": "same"}


def _halving(name, outputs):
    return name, outputs, (3, 3), {"stride": 2}


def _chain(name, *sizes):
    """Steps name_1, name_2, ... of (outputs, height, width)."""
    return [[_same(f"{name}_{index}", *size)] for index, size in enumerate(sizes, 1)]


def _pooled(pool, outputs):
    return [pool, [_same("branch_pool", outputs, 1, 1)]]


def _35(pooled):
    return [
        [[_same("branch1x1", 64, 1, 1)]],
        _chain("branch5x5", (48, 1, 1), (64, 5, 5)),
        _chain("branch3x3dbl", (64, 1, 1), (96, 3, 3), (96, 3, 3)),
        _pooled(_average, pooled),
    ]


def _17(inner):
    return [
        [[_same("branch1x1", 192, 1, 1)]],
        _chain("branch7x7", (inner, 1, 1), (inner, 1, 7), (192, 7, 1)),
        _chain("branch7x7dbl", (inner, 1, 1), (inner, 7, 1), (inner, 1, 7), (inner, 7, 1), (192, 1, 7)),
        _pooled(_average, 192),
    ]


def _8(pool):
    def fork(name):
        return [_same(f"{name}a", 384, 1, 3), _same(f"{name}b", 384, 3, 1)]

    return [
        [[_same("branch1x1", 320, 1, 1)]],
        [*_chain("branch3x3", (384, 1, 1)), fork("branch3x3_2")],
        [*_chain("branch3x3dbl", (448, 1, 1), (384, 3, 3)), fork("branch3x3dbl_3")],
        _pooled(pool, 192),
    ]


MIXED = {
    "Mixed_5b": _35(32),
    "Mixed_5c": _35(64),
    "Mixed_5d": _35(64),
    "Mixed_6a": [
        [[_halving("branch3x3", 384)]],
        [*_chain("branch3x3dbl", (64, 1, 1), (96, 3, 3)), [_halving("branch3x3dbl_3", 96)]],
        [_halve],
    ],
    "Mixed_6b": _17(128),
    "Mixed_6c": _17(160),
    "Mixed_6d": _17(160),
    "Mixed_6e": _17(192),
    "Mixed_7a": [
        [*_chain("branch3x3", (192, 1, 1)), [_halving("branch3x3_2", 320)]],
        [*_chain("branch7x7x3", (192, 1, 1), (192, 1, 7), (192, 7, 1)), [_halving("branch7x7x3_4", 192)]],
        [_halve],
    ],
    "Mixed_7b": _8(_average),
    "Mixed_7c": _8(_maximum),
}


def quantize(x):
    """The 8-bit image that a file would hold: uint8 (B, 3, H, W) from x: (B, 1 or 3, H, W) in [-1, 1], clipped to it.

    round(127.5 (x + 1)), so that images made by x / 127.5 - 1 come back as they were; gray becomes three equal colors.
    Raises ValueError if x cannot be meant in [-1, 1]: nowhere negative and somewhere above 2.
    """
    if x.numel() and x.min() >= 0 and x.max() > 2:
        raise ValueError(
            f"x must hold images in [-1, 1]; got values from {x.min():g} to {x.max():g}; see x / 127.5 - 1"
        )
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1)


def resize_torch_fidelity(image):
    """As torch-fidelity and the TensorFlow graph: uint8 (B, 3, H, W) -> (B, 3, 299, 299), (resized - 128) / 128.

    Output i is interpolated between its neighbors at i H / 299: corners, not centers, of the pixels are matched.
    """
    x = image.float()
    for dim in (3, 2):
        length = x.shape[dim]
        place = torch.arange(SIZE, dtype=torch.float32, device=x.device) * torch.tensor(length / SIZE, device="cpu")
        before = place.long()
        share = (place - before).reshape(-1, *[1] * (3 - dim))
        low = x.index_select(dim, before)
        x = low + (x.index_select(dim, (before + 1).clamp_max(length - 1)) - low) * share
    return (x - 128) / 128


def resize_pytorch_fid(image):
    """As pytorch-fid: uint8 (B, 3, H, W) -> (B, 3, 299, 299), 2 r - 1 of the image in [0, 1] resized by torch."""
    return 2 * F.interpolate(image.float() / 255, size=(SIZE, SIZE), mode="bilinear", align_corners=False) - 1
