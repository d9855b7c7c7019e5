"""Cases of the ops of a training step."""

import torch

from .. import ops
from .case import Case, base

WEIGHTS = (0.3, 0.0, 1.0, 0.9)  # toward the value from either end, not at all, all the way


def _average() -> Case:
    """Each sample is a tensor of its own."""

    def inputs(shape, dtype, generator):
        _, _, randn = base(shape, generator)
        weights = torch.tensor(WEIGHTS, device="cpu")
        return {"averages": randn(len(WEIGHTS), *shape), "values": randn(*shape), "weights": weights}

    def outputs(function):
        def run(averages, values, weights):
            function(averages.unbind(1), values.unbind(), weights)
            return (averages.transpose(0, 1),)

        return run

    return Case(
        "average", inputs, outputs(ops.average), outputs(ops.average_reference),
        lambda n, item: 4 * n * (1 + 2 * sum(weight > 0 for weight in WEIGHTS)), dtypes=(torch.float32,),
        shared=("weights",), layouts="contiguous",
    )  # fmt: skip


CASES = (_average(),)
