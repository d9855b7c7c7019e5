"""The cases of the ops inside networks: on a GPU an error is promised of them, not the CPU's bits; bits of dropout."""

from collections.abc import Callable

import torch

from .. import ops
from .case import Case, base


def group_count(channels: int) -> int:
    """Groups of four channels or so, and at most 32, as networks have."""
    return max(g for g in range(1, min(32, max(1, channels // 4)) + 1) if channels % g == 0)


def _group_norm_act(name: str, act: str, modulated: bool, affine: bool, add: str = "") -> Case:
    """add: "", or what is added to x: "rows", (N, C), or "like x", of which the sum is answered too.  It is rounded
    before it is normalized, so both are eighths: it is exact."""

    def eighths(t):
        return (t * 8).round().clamp(-60, 60) / 8

    def inputs(shape, dtype, generator):
        randn = base(shape, generator)[2]
        if len(shape) == 2:  # (N, features): as many channels as the features make, at most 13
            channels = max((c for c in range(1, 14) if shape[1] % c == 0), default=1)
            shape = (shape[0], channels, shape[1] // channels)
        batch, channels = shape[:2]
        args = {"x": (2 * randn(*shape) + 3).to(dtype), "groups": group_count(channels), "act": act}
        if affine:
            args |= {"weight": 1 + 0.2 * randn(channels), "bias": randn(channels)}
        if modulated:
            table = 0.5 * randn(batch, 2 * channels + 3)
            args |= {"scale": table[:, :channels], "shift": table[:, channels : 2 * channels]}
        if add:
            args["x"] = eighths(args["x"])
        if add == "rows":
            args |= {"add": eighths(randn(batch, channels))}
        if add == "like x":
            args |= {"add": eighths(randn(*shape)).to(dtype), "return_sum": True}
        return args

    def tupled(function):
        return lambda **args: out if isinstance(out := function(**args), tuple) else (out,)

    names = ("x", *("weight", "bias") * affine, *("scale", "shift") * modulated, *["add"] * bool(add))
    return Case(
        name, inputs, tupled(ops.group_norm_act), tupled(ops.group_norm_act_reference),
        lambda n, item: (4 if add == "like x" else 2) * n * item, differentiable=names,
        shared=("weight", "bias", "groups", "act", "return_sum"),
        layouts="rounding", contract="error", shapes=((16, 128, 32, 32), (8, 256, 32, 32)),
        gpu_shapes=(
            (64, 256, 64, 64), (256, 128, 32, 32), (256, 256, 16, 16), (8, 512, 128, 128), (1, 128, 20, 256, 256),
        ),
    )  # fmt: skip


def _time_embedding() -> Case:
    def inputs(shape, dtype, generator):
        batch, _, randn = base(shape, generator)
        width = torch.Size(shape[1:]).numel()
        frequencies = (
            ops.geometric_frequencies(width // 2) if width > 1 else torch.empty(0, dtype=torch.float64, device="cpu")
        )
        return {"t": 10 * randn(batch), "frequencies": frequencies, "flip": True, "dim": width, "dtype": dtype}

    def eager(t, frequencies, flip, dim, dtype):
        return (ops.time_embedding_reference(t, frequencies, flip=flip, dim=dim).to(dtype),)

    return Case(
        "time_embedding", inputs, lambda **a: (ops.time_embedding(**a),), eager, lambda n, item: n * item,
        shared=("frequencies", "flip", "dim"), layouts="contiguous", contract="error", shapes=((256, 256), (4096, 256)),
        gpu_shapes=((262_144, 256),),
    )  # fmt: skip


def _glu(function: Callable, eager: Callable) -> Case:
    def inputs(shape, dtype, generator):
        return {"x": 2 * base(shape, generator)[2](*shape[:-1], 2 * shape[-1]).to(dtype)}

    return Case(
        function.__name__, inputs, lambda x: (function(x),), lambda x: (eager(x),), lambda n, item: 3 * n * item,
        differentiable=("x",), layouts="contiguous", contract="error", shapes=((4096, 1536),),
        gpu_shapes=((65_536, 4608),),
    )  # fmt: skip


def _bias_act(act: str) -> Case:
    def inputs(shape, dtype, generator):
        randn = base(shape, generator)[2]
        return {"x": 2 * randn(*shape).to(dtype), "bias": randn(shape[-1]).to(dtype)}

    return Case(
        f"bias_act_{act}", inputs, lambda x, bias: (ops.bias_act(x, bias, act=act),),
        lambda x, bias: (ops.bias_act_reference(x, bias, act=act),), lambda n, item: 2 * n * item,
        differentiable=("x", "bias"), shared=("bias",), layouts="contiguous", contract="error", shapes=((2048, 1536),),
        gpu_shapes=((65_536, 4608),),
    )  # fmt: skip


def _norm_modulate(name: str, small: tuple[str, ...], shared: tuple[str, ...], gated: bool = False) -> Case:
    """`small`: which of the (B, D) and (D,) tensors there are; those `shared` are (D,)."""
    rms = name.startswith("rms")
    function = getattr(ops, name)

    def inputs(shape, dtype, generator):
        batch, _, randn = base(shape, generator)
        tokens = ("residual", "y") if gated else ("x",)
        args = {n: randn(*shape).to(dtype) for n in tokens}
        sizes = {n: (shape[-1],) if n in shared else (batch, shape[-1]) for n in small}
        return args | {n: (0.5 * randn(*size) + (n == "weight")).to(dtype) for n, size in sizes.items()}

    def op(**args):
        out = function(**args)
        return out if gated else (out,)

    def eager(**args):
        if not gated:
            return (ops.norm_modulate_reference(**args, rms=rms),)
        residual, y, gate = (args.pop(n) for n in ("residual", "y", "gate"))
        v = residual + gate.reshape(len(gate), *[1] * (y.ndim - 2), -1) * y
        return v, ops.norm_modulate_reference(v, **args)

    return Case(
        name, inputs, op, eager, lambda n, item: n * item * (4 if gated else 2),
        differentiable=(*(("residual", "y") if gated else ("x",)), *small), shared=shared, layouts="contiguous",
        contract="error", shapes=((16, 256, 768),), gpu_shapes=((64, 1024, 1152), (64, 1024, 3072), (1, 4096, 3072)),
    )  # fmt: skip


def _dropout() -> Case:
    def inputs(shape, dtype, generator):
        _, key, randn = base(shape, generator)
        return {"x": randn(*shape).to(dtype), "key": key, "p": 0.3, "layer": 5}

    def eager(x, key, p, layer):
        u = ops.in_layout_of(ops.uniform(key, x.shape[1:], ops.Purpose.DROPOUT, layer), x)
        return (ops.dropout_reference(x, u, p),)

    return Case(
        "dropout", inputs, lambda **a: (ops.dropout(**a),), eager, lambda n, item: 2 * n * item, differentiable=("x",),
        shapes=((128, 64, 8, 8), (16, 128, 32, 32)), gpu_shapes=((64, 256, 64, 64), (256, 256, 16, 16)),
    )  # fmt: skip


def _residual() -> Case:
    def inputs(shape, dtype, generator):
        randn = base(shape, generator)[2]
        args = {"x": randn(*shape).to(dtype), "y": randn(*shape).to(dtype), "scale": 0.5**0.5}
        return args | {"bias": randn(shape[1])}

    return Case(
        "residual", inputs, lambda **a: (ops.residual(**a),), lambda **a: (ops.residual_reference(**a),),
        lambda n, item: 3 * n * item, differentiable=("x", "y", "bias"), shared=("bias", "scale"),
        shapes=((16, 128, 32, 32),), gpu_shapes=((64, 256, 64, 64), (256, 128, 32, 32)),
    )  # fmt: skip


_MODULATED = ("scale", "shift")
_AFFINE = ("weight", "bias")
CASES = (
    _group_norm_act("group_norm_act", "silu", modulated=True, affine=True),
    _group_norm_act("group_norm_film", "gelu", modulated=True, affine=False),
    _group_norm_act("group_norm_plain", "none", modulated=False, affine=True),
    _group_norm_act("group_norm_tanh", "gelu_tanh", modulated=False, affine=False),
    _group_norm_act("group_norm_rows", "silu", modulated=False, affine=True, add="rows"),
    _group_norm_act("group_norm_sum", "silu", modulated=True, affine=True, add="like x"),
    _bias_act("gelu_tanh"),
    _bias_act("silu"),
    _time_embedding(),
    _dropout(),
    _residual(),
    _glu(ops.geglu, ops.geglu_reference),
    _glu(ops.swiglu, ops.swiglu_reference),
    _norm_modulate("layer_norm_modulate", (*_MODULATED, *_AFFINE), _AFFINE),
    _norm_modulate("rms_norm_modulate", ("weight",), ("weight",)),
    _norm_modulate("gate_residual_norm_modulate", ("gate", *_MODULATED), (), gated=True),
)
