"""The Runge-Kutta update: zero coefficients, gradients; its formula is checked in test_ops.py."""

import torch

from genfast import ops


def arguments(dtype=torch.float32, stages=3):
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 5, 6), (stages, 4, 5, 6), (4, stages), (4, stages))
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def test_a_stage_of_zero_weight_is_not_touched():
    """So a sample that is done, with a step of 0, keeps its bits whatever its slopes are."""
    x, k, c, error = arguments()
    k[:, 1] = torch.nan
    k[2] = torch.inf
    c[1] = error[1] = 0
    c[:, 2] = error[:, 2] = 0
    out, err = ops.runge_kutta(x, k, c, error, rtol=0.1, atol=0.1)
    assert out.isfinite().all() and err.isfinite().all()
    assert torch.equal(out[1], x[1]) and err[1] == 0
    for given, one in ((out, None), (out, error)):
        assert torch.equal(ops.runge_kutta(x, k, c, one)[0], given)
    wide = ops.runge_kutta(x.double(), k.double(), c.double(), error.double(), rtol=0.1, atol=0.1)
    for narrow, reference in zip((out, err), wide, strict=True):
        torch.testing.assert_close(narrow.double(), reference, rtol=1e-6, atol=1e-6)


def test_no_error_is_asked_for():
    x, k, c, _ = arguments()
    assert ops.runge_kutta(x, k, c)[1] is None
    assert ops.runge_kutta(x.double(), k.double(), c.double())[1] is None


def test_gradients():
    wide = [value.requires_grad_() for value in arguments(torch.float64, stages=2)]
    assert torch.autograd.gradcheck(lambda *v: ops.runge_kutta(*v, rtol=0.1, atol=0.1), wide)
    narrow = [value.requires_grad_() for value in arguments(stages=2)]
    sum(out.sum() for out in ops.runge_kutta(*narrow, rtol=0.1, atol=0.1)).backward()
    assert all(value.grad.abs().max() > 0.01 for value in narrow)
