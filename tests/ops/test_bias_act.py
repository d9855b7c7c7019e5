"""A bias and its activation: known values and laws, the error against torch's own, every shape, what is refused."""

import pytest
import torch
import torch.nn.functional as F
from helpers import normal32

from genfast import ops

ACTS = {
    "none": lambda u: u, "silu": F.silu, "gelu": F.gelu, "gelu_tanh": lambda u: F.gelu(u, approximate="tanh"),
}  # fmt: skip
every_act = pytest.mark.parametrize("act", ACTS)


@every_act
def test_laws(act):
    """act(0 + b) = act(b); act(u) - act(-u) = u for all but none, whose sum is zero; far out it is u or nothing."""
    u = torch.linspace(-12, 12, 9999)
    y = ops.bias_act(u, act=act)
    assert torch.equal(ops.bias_act(torch.zeros_like(u), u, act=act), y)
    odd = u if act != "none" else 2 * u
    torch.testing.assert_close(y - ops.bias_act(-u, act=act), odd, rtol=3e-7, atol=1e-7)
    far = torch.tensor([30.0, 1e4, 1e30, torch.inf, torch.nan])
    assert torch.equal(ops.bias_act(far, act=act)[:4], far[:4]) and ops.bias_act(far, act=act)[4].isnan()


@every_act
def test_as_exact_as_torch(act):
    """Value and slope: at most twice the error of torch's own float32 against float64."""

    def both(u, function):
        u = u.clone().requires_grad_()
        y = function(u)
        return [y.detach(), torch.autograd.grad(y.sum(), u)[0]]

    u = torch.cat([torch.linspace(-10, 10, 200_001), 1e-3 * torch.linspace(-1, 1, 1001)])
    ours, torchs = both(u, lambda u: ops.bias_act(u, act=act)), both(u, ACTS[act])
    for out, own, exact in zip(ours, torchs, both(u.double(), ACTS[act]), strict=True):
        assert (out - exact).abs().max() <= 2 * (own - exact).abs().max()


def without_cancellation(u):
    """Values of each activation in float64, right to the last digits in the tails too."""
    tanh = u * torch.sigmoid(2 * (2 / torch.pi) ** 0.5 * (u + 0.044715 * u**3))
    return {"none": u, "silu": u * torch.sigmoid(u), "gelu": u * torch.special.ndtr(u), "gelu_tanh": tanh}


@every_act
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_every_number_of_16_bits(act, dtype):
    """An eighth more than rounding; below -8 what is left of GELU is less than 1e-8 (float16) or 1e-14 (bfloat16)."""
    u = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    u = u[u.isfinite() & (u.abs() < 1e20)].requires_grad_()
    y = ops.bias_act(u, act=act)
    (slope,) = torch.autograd.grad(y, u, torch.ones_like(y))
    wide = u.detach().double().requires_grad_()
    exact = without_cancellation(wide)[act]
    (exact_slope,) = torch.autograd.grad(exact, wide, torch.ones_like(exact))
    rounding, bf16 = torch.finfo(dtype).eps * 9 / 16, dtype == torch.bfloat16
    least = 1e-14 if bf16 else 1.2e-8 + torch.finfo(dtype).smallest_normal * rounding * 2
    assert ((y.double() - exact).abs() <= rounding * exact.abs() + least).all()
    least_of_slopes = 1e-4 if bf16 and act == "gelu" else 1e-6  # it goes through zero
    assert ((slope.double() - exact_slope).abs() <= rounding * exact_slope.abs() + least_of_slopes).all()


@pytest.mark.parametrize("shape", [(1,), (65,), (7, 129), (3, 2, 18), (2, 3, 4, 8), (0, 6), (4, 0), (2, 0, 10)])
def test_every_shape(shape):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, requires_grad=True)
    bias = torch.randn(shape[-1], generator=generator, requires_grad=True)
    expected = F.silu(x.double() + bias.double())
    out = ops.bias_act(x, bias)
    assert out.shape == x.shape and out.dtype == x.dtype
    torch.testing.assert_close(out.double(), expected, rtol=1e-6, atol=1e-6)
    weights = torch.linspace(-1, 1, out.numel()).reshape(shape)
    ours, theirs = (torch.autograd.grad(y, (x, bias), w) for y, w in ((out, weights), (expected, weights.double())))
    for own, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, their, rtol=1e-6, atol=3e-6)


def test_strides_and_dtypes_of_the_bias_do_not_matter():
    x, bias = torch.randn(4, 10, 6), torch.randn(10).bfloat16()
    turned = x.transpose(1, 2)
    assert torch.equal(ops.bias_act(turned, bias), ops.bias_act(turned.contiguous(), bias.float()))
    half = ops.bias_act(turned.bfloat16(), bias, act="gelu_tanh")
    exact = ops.bias_act_reference(turned.bfloat16().double(), bias.double(), act="gelu_tanh")
    assert half.dtype == torch.bfloat16 and torch.equal(half, exact.bfloat16())
    gradient = torch.autograd.grad(ops.bias_act(turned, bias.requires_grad_()).sum(), bias)[0]
    assert gradient.dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(3, 7), (5, 64), (2, 1000)])
def test_a_bias_is_read_as_it_is(shape):
    """The bits of the same numbers in float32, and a gradient of its own dtype."""
    for dtype in (torch.bfloat16, torch.float16):
        x, bias = normal32(*shape).to(dtype), normal32(shape[-1], seed=1).to(dtype)
        for act in ops.ACTIVATIONS:
            assert torch.equal(ops.bias_act(x, bias, act=act), ops.bias_act(x, bias.float(), act=act))
        leaf = bias.clone().requires_grad_()
        ops.bias_act(x, leaf).sum().backward()
        wide = bias.float().requires_grad_()
        ops.bias_act(x, wide).sum().backward()
        assert torch.equal(leaf.grad, wide.grad.to(dtype))


def test_compiled_gradients():
    torch.compiler.reset()
    x, bias = torch.randn(3, 14, requires_grad=True), torch.randn(14, requires_grad=True)

    def function(x, bias):
        return ops.bias_act(x, bias, act="gelu").square().sum()

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for own, eager in zip(*(torch.autograd.grad(f(x, bias), (x, bias)) for f in (compiled, function)), strict=True):
        assert torch.equal(own, eager)


X, B = torch.zeros(3, 8), torch.zeros(8)
BAD = {
    "act must be one of none, silu, gelu, gelu_tanh; got 'relu'": lambda: ops.bias_act(X, act="relu"),
    r"x must be \(\*, D\) and bias \(D,\); got \(3, 8\) and \(3,\)": lambda: ops.bias_act(X, B[:3]),
    r"bias \(D,\); got \(\)": lambda: ops.bias_act(torch.tensor(1.0)),
    "x must be float32, bfloat16 or float16; got int64": lambda: ops.bias_act(X.long()),
    "bias_act: x must be contiguous": lambda: torch.ops.genfast.bias_act(X[:, ::2], None, 1),
    "bias_act: bias must be float32; got float64": lambda: torch.ops.genfast.bias_act(X, B.double(), 1),
    r"act must lie in \[0, 3\]; got 4": lambda: torch.ops.genfast.bias_act(X, B, 4),
    "grad_y must be float32": lambda: torch.ops.genfast.bias_act_backward(X, B, X.bfloat16(), 1, True),
}


@pytest.mark.parametrize("message", BAD)
def test_refused(message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        BAD[message]()
