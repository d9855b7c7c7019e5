"""The cases of the ops inside networks."""

from .. import ops
from .case import Case, base


def group_count(channels: int) -> int:
    """Groups of four channels or so."""
    return max(g for g in range(1, max(1, channels // 4) + 1) if channels % g == 0)


def _group_norm_act(name: str, act: str, modulated: bool, affine: bool) -> Case:
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
        return args

    names = ("x", *("weight", "bias") * affine, *("scale", "shift") * modulated)
    return Case(
        name, inputs, lambda **a: (ops.group_norm_act(**a),), lambda **a: (ops.group_norm_act_reference(**a),),
        lambda n, item: 2 * n * item, differentiable=names, shared=("weight", "bias", "groups", "act"),
        layouts="rounding", shapes=((16, 128, 32, 32), (8, 256, 32, 32)),
    )  # fmt: skip


CASES = (
    _group_norm_act("group_norm_act", "silu", modulated=True, affine=True),
    _group_norm_act("group_norm_film", "gelu", modulated=True, affine=False),
    _group_norm_act("group_norm_plain", "none", modulated=False, affine=True),
    _group_norm_act("group_norm_tanh", "gelu_tanh", modulated=False, affine=False),
)
