"""Gated linear units: laws of their gates, their error against torch's own, and every shape."""

import pytest
import torch
import torch.nn.functional as F

from genfast import ops

KINDS = {"geglu": (ops.geglu, F.gelu, 1), "swiglu": (ops.swiglu, F.silu, 0)}  # with the half that is the gate
every_kind = pytest.mark.parametrize("kind", KINDS)


def gate(kind, u):
    """The activation alone: the other half is one."""
    halves = [torch.ones_like(u), u] if KINDS[kind][2] else [u, torch.ones_like(u)]
    return KINDS[kind][0](torch.cat(halves, -1))


@every_kind
def test_laws_of_the_gates(kind):
    """act(u) - act(-u) = u for both, as Phi and the logistic function are odd about 1/2; and known values."""
    u = torch.linspace(-12, 12, 9999)
    torch.testing.assert_close(gate(kind, u) - gate(kind, -u), u, rtol=3e-7, atol=1e-7)
    known = {
        "geglu": [0.0, 0.8413447460685429, -0.15865525393145707],
        "swiglu": [0.0, 0.7310585786300049, -0.2689414214],
    }
    torch.testing.assert_close(gate(kind, torch.tensor([0.0, 1.0, -1.0])), torch.tensor(known[kind]), rtol=2e-7, atol=0)
    far = torch.tensor([30.0, 1e4, 1e30, torch.inf, -30.0, -1e4, -1e30, torch.nan])
    out = gate(kind, far)
    assert torch.equal(out[:4], far[:4]) and (out[4:7].abs() < 1e-6).all() and out[7].isnan()


@every_kind
def test_gates_and_slopes_are_as_exact_as_those_of_torch(kind):
    """At most twice the error of torch's own float32 against float64, value and slope."""

    def both(u, act):
        u = u.clone().requires_grad_()
        y = act(u)
        return [y.detach(), torch.autograd.grad(y.sum(), u)[0]]

    u = torch.cat([torch.linspace(-10, 10, 200_001), 1e-3 * torch.linspace(-1, 1, 1001)])
    ours, torchs = both(u, lambda u: gate(kind, u)), both(u, KINDS[kind][1])
    for out, own, exact in zip(ours, torchs, both(u.double(), KINDS[kind][1]), strict=True):
        assert (out - exact).abs().max() <= 2 * (own - exact).abs().max()


@every_kind
@pytest.mark.parametrize("shape", [(2,), (6,), (5, 2), (7, 130), (3, 2, 18), (2, 3, 4, 66), (0, 6), (4, 0), (2, 0, 10)])
def test_every_shape(kind, shape):
    function, act, at = KINDS[kind]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
    halves = x.double().chunk(2, -1)
    expected = act(halves[at]) * halves[1 - at]
    out = function(x)
    assert out.shape == expected.shape and out.dtype == x.dtype
    torch.testing.assert_close(out.double(), expected, rtol=1e-6, atol=1e-6)
    weights = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
    ours, theirs = (torch.autograd.grad(y, x, w)[0] for y, w in ((out, weights), (expected, weights.double())))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@every_kind
def test_strides_do_not_matter(kind):
    function = KINDS[kind][0]
    x = torch.randn(4, 10, 6, requires_grad=True)
    turned, whole = x.transpose(1, 2), x.transpose(1, 2).contiguous()
    assert torch.equal(function(turned), function(whole))
    for total in (lambda y: y.sum(), lambda y: y.transpose(0, 1).square().sum()):  # gradients that are not contiguous
        assert torch.equal(*(torch.autograd.grad(total(function(v)), x)[0] for v in (turned, whole)))


@every_kind
def test_compiled_gradients(kind):
    function = KINDS[kind][0]
    torch.compiler.reset()
    compiled = torch.compile(lambda x: function(x).square().sum(), fullgraph=True, backend="aot_eager")
    x = torch.randn(3, 14, requires_grad=True)
    assert torch.equal(*(torch.autograd.grad(f(x), x)[0] for f in (compiled, lambda x: function(x).square().sum())))


X, DY = torch.zeros(3, 8), torch.zeros(3, 4)
BAD = {
    r"x must have an even last dimension, two halves; got shape \(3, 7\)": lambda: ops.geglu(X[:, :7]),
    r"two halves; got shape \(\)": lambda: ops.swiglu(torch.tensor(1.0)),
    "x must be float32, bfloat16 or float16; got int64": lambda: ops.swiglu(X.long()),
    "glu: the last dimension of x must be even": lambda: torch.ops.genfast.glu(torch.zeros(3, 7), True),
    "glu: x must be contiguous": lambda: torch.ops.genfast.glu(X[:, ::2], True),
    "grad_y must be float32; got bfloat16": lambda: torch.ops.genfast.glu_backward(X, DY.bfloat16(), True),
    r"grad_y must be contiguous of shape \(3, 4\)": lambda: torch.ops.genfast.glu_backward(X, X, True),
    "grad_y must be contiguous or": lambda: torch.ops.genfast.glu_backward(X, X[:, ::2], True),
}


@pytest.mark.parametrize("message", BAD)
def test_refused(message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        BAD[message]()
