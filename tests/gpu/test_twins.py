"""Every op's CUDA kernels at sizes and in layouts that an emulation on the host does not reach.

What makes a sample has the CPU's bits. What sits inside networks is at most twice as wrong as torch, both held against
float64.
"""

import pytest
import torch
from cases import channels_last, equal, expanded, make, shifted, sliced, transposed, widen

from genfast._extension import extension
from genfast.testing import CASES, to

EMULATED = extension.build_info()["emulated"]
LAYOUTS = {
    "contiguous": torch.clone, "channels_last": channels_last, "sliced": sliced, "transposed": transposed,
    "expanded": expanded, "shifted": shifted,
}  # fmt: skip
DENSE = ("contiguous", "channels_last", "shifted")  # what is written to must be
SHAPES = {
    "cpu": [(0, 65), (1, 1), (3, 67), (2, 3, 5, 7)],
    "cuda": [
        (0, 65), (1, 1), (1, 2**20 + 1), (7, 104_729), (4099, 33), (65_537, 5), (131_101, 1), (2, 3, 257, 131),
        (2, 64, 33, 31), (3, 2, 5, 17, 19),
    ],
}  # fmt: skip
MOST_PAIRS = 2**34  # numbers in all pairs of two sets: what a CPU goes through in seconds
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def emulate(wish):
    if EMULATED:
        extension.set_emulating(wish)


def on(device, args):
    return to(args, lambda t: t.to(device, copy=True))


def laid_out(case, args, layout):
    """The arguments, those that are only read in this layout, those that are written too where it is dense."""
    before = to(args, torch.clone)
    case.op(**args)
    read = [name for name, value in before.items() if not torch.is_tensor(value) or torch.equal(value, args[name])]
    return {
        name: to({name: value}, LAYOUTS[layout])[name]
        if (layout in DENSE or name in read) and name != "table"
        else value
        for name, value in before.items()
    }


def require_accuracy(found, exact, own, dtype):
    """At most twice torch's own error, and a rounding."""
    for a, wide, b in zip(found, exact, own, strict=True):
        if wide.numel():
            error, allowed = ((t.double().cpu() - wide).abs().max() for t in (a, b))
            rounding = max(8 * torch.finfo(torch.float32).eps, torch.finfo(dtype).eps * (a.dtype == dtype))
            assert error <= 2 * allowed + rounding * wide.abs().max(), (error, allowed)


def possible(case, shape, layout):
    if "y" in case.shared and shape[0] ** 2 * torch.Size(shape[1:]).numel() > MOST_PAIRS:
        return False
    if layout not in DENSE and shape[0] == 0:  # nothing has gaps
        return False
    return layout != "channels_last" or (len(shape) == 4 and case.layouts != "contiguous")


@every_case
@pytest.mark.parametrize("layout", LAYOUTS)
def test_twin(case, layout, device):
    for shape in SHAPES[device.type]:
        for dtype in case.dtypes if possible(case, shape, layout) else ():
            emulate(True)
            args = laid_out(case, on(device, make(case, shape, dtype)), layout)
            same = to(args, lambda t: t.cpu().clone())
            inputs = to(same, torch.clone)
            found = case.op(**args)
            emulate(False)
            expected = case.op(**same)
            assert [t.shape for t in found] == [t.shape for t in expected]
            if case.contract == "bits":
                assert equal([t.cpu() for t in found], expected), (shape, dtype)
            elif torch.Size(shape[1:]).numel() == 1:  # whose norm torch refuses
                torch.testing.assert_close([t.cpu() for t in found], list(expected))
            elif shape[0]:
                require_accuracy(found, case.eager(**widen(inputs)), case.eager(**on(device, inputs)), dtype)


@pytest.mark.parametrize("case", [c for c in CASES.values() if c.differentiable], ids=lambda c: c.name)
def test_gradients(case, device):
    def gradients(function, args, outer):
        args = to(args, lambda t: t.detach().clone())
        leaves = [args[name].requires_grad_() for name in case.differentiable]
        outputs = function(**args)
        return torch.autograd.grad(outputs, leaves, [g.to(o) for g, o in zip(outer, outputs, strict=True)])

    exact = hasattr(torch.ops.genfast, f"{case.name}_backward") and case.contract == "bits"
    for shape in SHAPES[device.type]:
        for dtype in case.dtypes if shape[0] and torch.Size(shape[1:]).numel() > 1 else ():  # one number has no norm
            args = make(case, shape, dtype)
            generator = torch.Generator().manual_seed(1)
            outer = [torch.randn(o.shape, generator=generator).to(o.dtype) for o in case.op(**to(args, torch.clone))]
            found = gradients(case.op, on(device, args), outer)
            if exact:
                assert equal([t.cpu() for t in found], gradients(case.op, args, outer)), (shape, dtype)
            else:
                wide = gradients(case.op, widen(args), outer)
                require_accuracy(found, wide, gradients(case.eager, on(device, args), outer), dtype)
