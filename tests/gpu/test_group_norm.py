"""Group norm of groups that a cluster holds, in registers or shared memory too, or that one launch reads twice."""

import pytest
import torch
from cases import channels_last

from genfast import ops

SHAPES = {
    "cpu": [((2, 8, 12, 20), 2)],
    "cuda": [
        ((64, 256, 64, 64), 32), ((4, 512, 128, 128), 32), ((2, 64, 8, 256, 256), 4), ((1, 128, 20, 256, 256), 32),
    ],
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("lay", [torch.Tensor.contiguous, channels_last])
def test_parts_that_meet(lay, dtype, device):
    """Near float64, and the same bits each time: blocks that read too early would not give them."""
    for shape, groups in SHAPES[device.type]:
        if len(shape) == 5 and lay is channels_last:
            continue
        generator = torch.Generator(device).manual_seed(3)
        x, dy = (lay(torch.randn(shape, generator=generator, device=device).to(dtype)) for _ in range(2))
        small = list(torch.randn(4, *shape[:2], generator=generator, device=device))
        leaves = [x, small[0][0], small[1][0], *small[2:]]

        def call(op, dy, leaves, groups=groups):
            leaves = [t.detach().requires_grad_() for t in leaves]
            y = op(leaves[0], groups, *leaves[1:])
            return y.detach(), *torch.autograd.grad(y, leaves, dy)

        found = call(ops.group_norm_act, dy, leaves)
        for _ in range(3):
            again = call(ops.group_norm_act, dy, leaves)
            assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True)), shape
        exact = call(ops.group_norm_act_reference, dy.double(), [t.double() for t in leaves])
        for a, b in zip(found, exact, strict=True):
            near = 1e-4 if a.ndim < x.ndim else 8 * torch.finfo(dtype).eps
            assert (a.double() - b).abs().max() <= near * b.abs().max(), (shape, a.shape)
        del found, again, exact
