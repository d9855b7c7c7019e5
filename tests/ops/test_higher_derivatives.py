"""Derivatives beyond the second, which no kernel has: of the ops in float32 against elementary torch in float64."""

import pytest
import torch

from genfast import ops


def layer_norm(x):  # torch's own has a wrong third derivative
    far = x - x.mean(-1, keepdim=True)
    return far * (far.square().mean(-1, keepdim=True) + 1e-6).rsqrt()


PAIRS = {
    "geglu": (ops.geglu, ops.geglu_reference),
    "swiglu": (ops.swiglu, ops.swiglu_reference),
    "bias_act": (ops.bias_act, torch.nn.functional.silu),
    "group_norm_act": (
        lambda x: ops.group_norm_act(x, 1, act="gelu", eps=1e-6),
        lambda x: torch.nn.functional.gelu(layer_norm(x)),
    ),
    "layer_norm_modulate": (ops.layer_norm_modulate, layer_norm),
    "rms_norm_modulate": (ops.rms_norm_modulate, lambda x: x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()),
}


def derivative(function, x, order):
    x = x.clone().requires_grad_()
    y = function(x)
    for _ in range(order):
        weights = torch.arange(y.numel(), dtype=x.dtype).reshape(y.shape).cos()
        (y,) = torch.autograd.grad((weights * y.square()).sum(), x, create_graph=True)
    return y.detach()


@pytest.mark.parametrize("name", PAIRS)
def test_third_and_fourth_derivatives(name):
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    for order in (3, 4):
        fused, expected = (derivative(f, x.to(d), order) for f, d in zip(PAIRS[name], (torch.float32, torch.float64)))
        torch.testing.assert_close(fused.double(), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
