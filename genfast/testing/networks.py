"""The cases of the ops inside networks."""

from .. import ops
from .case import Case, base


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
        shapes=((16, 256, 768),),
    )  # fmt: skip


_MODULATED = ("scale", "shift")
_AFFINE = ("weight", "bias")
CASES = (
    _norm_modulate("layer_norm_modulate", (*_MODULATED, *_AFFINE), _AFFINE),
    _norm_modulate("rms_norm_modulate", ("weight",), ("weight",)),
    _norm_modulate("gate_residual_norm_modulate", ("gate", *_MODULATED), (), gated=True),
)
