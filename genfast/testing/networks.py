"""The cases of the ops inside networks."""

from collections.abc import Callable

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


def _glu(function: Callable, eager: Callable) -> Case:
    def inputs(shape, dtype, generator):
        return {"x": 2 * base(shape, generator)[2](*shape[:-1], 2 * shape[-1]).to(dtype)}

    return Case(
        function.__name__, inputs, lambda x: (function(x),), lambda x: (eager(x),), lambda n, item: 3 * n * item,
        differentiable=("x",), layouts="contiguous", shapes=((4096, 1536),),
    )  # fmt: skip


def _bias_act(act: str) -> Case:
    def inputs(shape, dtype, generator):
        randn = base(shape, generator)[2]
        return {"x": 2 * randn(*shape).to(dtype), "bias": randn(shape[-1]).to(dtype)}

    return Case(
        f"bias_act {act}", inputs, lambda x, bias: (ops.bias_act(x, bias, act=act),),
        lambda x, bias: (ops.bias_act_reference(x, bias, act=act),), lambda n, item: 2 * n * item,
        differentiable=("x", "bias"), shared=("bias",), layouts="contiguous", shapes=((2048, 1536),),
    )  # fmt: skip


CASES = (
    _bias_act("gelu_tanh"),
    _bias_act("silu"),
    _time_embedding(),
    _glu(ops.geglu, ops.geglu_reference),
    _glu(ops.swiglu, ops.swiglu_reference),
)
