"""The cases of the ops inside networks."""

import torch

from .. import ops
from .case import Case, base


def _time_embedding() -> Case:
    def inputs(shape, dtype, generator):
        batch, _, randn = base(shape, generator)
        width = torch.Size(shape[1:]).numel()
        frequencies = ops.geometric_frequencies(width // 2) if width > 1 else torch.empty(0, dtype=torch.float64)
        return {"t": 10 * randn(batch), "frequencies": frequencies, "flip": True, "dim": width, "dtype": dtype}

    def eager(t, frequencies, flip, dim, dtype):
        return (ops.time_embedding_reference(t, frequencies, flip=flip, dim=dim).to(dtype),)

    return Case(
        "time_embedding", inputs, lambda **a: (ops.time_embedding(**a),), eager, lambda n, item: n * item,
        shared=("frequencies", "flip", "dim"), layouts="contiguous", shapes=((256, 256), (4096, 256)),
    )  # fmt: skip


CASES = (_time_embedding(),)
