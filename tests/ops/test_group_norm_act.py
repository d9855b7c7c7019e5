"""What is special to group_norm_act: hard shapes, large means, both layouts, sums that see one sample, bad input."""

import itertools

import pytest
import torch

from genfast import ops
from genfast._extension import extension

# (N, C, *), groups: one channel a group, one group, 32 groups, one pixel, odd sizes, widths that fill no register.
SHAPES = [
    ((2, 16, 1, 1), 8),
    ((3, 64, 1, 1), 4),
    ((1, 32, 7, 13), 32),
    ((2, 96, 7, 13), 32),
    ((2, 320, 5, 3), 32),
    ((1, 6, 40, 52), 2),
    ((2, 5, 3), 5),
    ((2, 12, 33), 3),
    ((2, 24, 2, 3, 5), 6),
    ((2, 16, 64, 33), 1),
]
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


def arguments(shape, dtype=torch.float32, mean=0.0, seed=0):
    randn = torch.Generator().manual_seed(seed)
    N, C = shape[:2]
    x = (torch.randn(shape, generator=randn) + mean).to(dtype)
    weight, bias = 1 + 0.3 * torch.randn(C, generator=randn), torch.randn(C, generator=randn)
    scale, shift = (0.4 * torch.randn(N, 2 * C, generator=randn)).chunk(2, 1)
    return x, weight, bias, scale, shift


def laid_out(shape):
    return [torch.contiguous_format, *[LAYOUTS[n] for n in LAYOUTS if n == len(shape)]]


def wide(tensors):
    return [t.double() for t in tensors]


@pytest.mark.parametrize(("shape", "groups"), SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_error_is_at_most_twice_that_of_torch(shape, groups, dtype, mean):
    x, *small = arguments(shape, dtype, mean)
    for layout in laid_out(shape):
        x = x.contiguous(memory_format=layout)
        for act in ("silu", "none"):
            reference = ops.group_norm_act_reference(x.double(), groups, *wide(small), act=act)
            eager = ops.group_norm_act_reference(x, groups, *small, act=act)
            y = ops.group_norm_act(x, groups, *small, act=act)
            assert y.stride() == x.stride() and y.dtype == dtype
            error, allowed = (y.double() - reference).abs().max(), (eager.double() - reference).abs().max()
            ulp = torch.finfo(dtype).eps * reference.abs().max()
            assert error <= 2 * allowed + ulp, (layout, act, error, allowed)


@pytest.mark.parametrize(("shape", "groups"), SHAPES, ids=str)
def test_gradients_are_as_right_as_those_of_torch(shape, groups):
    inputs = arguments(shape, mean=3.0)
    for layout, act in itertools.product(laid_out(shape), ("silu", "gelu")):

        def gradients(function, convert, layout=layout, act=act):
            leaves = [convert(t).detach().requires_grad_() for t in inputs]
            y = function(leaves[0].contiguous(memory_format=layout), groups, *leaves[1:], act=act)
            torch.manual_seed(1)
            return torch.autograd.grad(y, leaves, torch.randn(y.shape).to(y))

        exact = gradients(ops.group_norm_act_reference, torch.Tensor.double)
        for a, b, c in zip(
            gradients(ops.group_norm_act, torch.clone), gradients(ops.group_norm_act_reference, torch.clone), exact
        ):
            error, allowed = (a.double() - c).abs().max(), (b.double() - c).abs().max()
            assert error <= 2 * allowed + 4e-6 * max(1, c.abs().max()), (layout, act)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("mean", [0.0, 100.0, -1000.0])
def test_the_variance_keeps_its_digits_under_a_large_mean(layout, mean):
    """Sums of x and x^2 themselves would lose (mean / std)^2 of 1.2e-7: a thousandth at 100."""
    x = arguments((2, 64, 32, 32), mean=mean)[0].contiguous(memory_format=layout)
    rstd = torch.ops.genfast.group_norm_act(x, 32, None, None, None, None, None, 0, 0.0, False, True)[2][1]
    variance = x.double().reshape(2, 32, -1).var(-1, correction=0)
    assert (rstd.double().square() * variance - 1).abs().max() < 1e-6


def test_the_first_pixel_may_be_an_outlier():
    x = arguments((1, 8, 32, 32), mean=100.0)[0]
    x[:, :, 0, 0] = 0
    rstd = torch.ops.genfast.group_norm_act(x, 2, None, None, None, None, None, 0, 0.0, False, True)[2][1]
    variance = x.double().reshape(1, 2, -1).var(-1, correction=0)
    assert (rstd.double().square() * variance - 1).abs().max() < 2e-6


@pytest.mark.parametrize("shape", [(5, 32, 8, 8), (5, 32, 7, 13)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_row_is_the_same_alone(shape, layout):
    x, weight, bias, scale, shift = arguments(shape)
    x = x.contiguous(memory_format=layout)
    whole = ops.group_norm_act(x, 8, weight, bias, scale, shift)
    for i in range(5):
        row = slice(i, i + 1)
        assert torch.equal(ops.group_norm_act(x[row], 8, weight, bias, scale[row], shift[row]), whole[row])


def test_a_constant_group_is_its_offset():
    x = torch.full((2, 6, 5, 7), 0.3)
    y = ops.group_norm_act(x, 2, None, torch.arange(6.0), act="none")
    assert torch.equal(y, torch.arange(6.0)[:, None, None].expand(2, 6, 5, 7))


def test_activations_far_out():
    u = torch.tensor([-1e30, -200.0, -88.5, -20.0, 0.0, 20.0, 88.5, 200.0, 1e30])
    x = torch.tensor([-1.0, 1.0]).repeat(9, 1).reshape(1, 18, 1)  # groups of -1 and 1, all scaled to zero
    y = {
        act: ops.group_norm_act(x, 9, torch.zeros(18), u.repeat_interleave(2), act=act)[0, ::2, 0]
        for act in ("silu", "gelu", "gelu_tanh")
    }
    for values in y.values():
        assert values.isfinite().all() and (values[1:4].abs() < 1e-6).all() and torch.equal(values[5:], u[5:])
        assert values[0].abs() <= 1e30 * 1e-20


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("per_group", [4, 8, 16])
def test_what_is_not_finite_stays_in_its_group(value, dtype, per_group):
    """A tensor core may add 0 times it to the sums of others."""
    x = arguments((2, 128, 8, 8), dtype)[0]
    for layout in laid_out(x.shape):
        right = ops.group_norm_act(x.contiguous(memory_format=layout), 128 // per_group)
        for channel in (0, 37, 127):
            broken = x.clone(memory_format=layout)
            broken[0, channel, 3, 5] = value
            y = ops.group_norm_act(broken.contiguous(memory_format=layout), 128 // per_group)
            group = slice(channel // per_group * per_group, (channel // per_group + 1) * per_group)
            assert y[0, group].isnan().all()
            y[0, group] = right[0, group]
            torch.testing.assert_close(y, right, rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_small_tensors_in_half_precision_and_frozen_ones():
    x, weight, bias, scale, shift = arguments((2, 8, 4, 4), torch.bfloat16)
    narrow = [t.bfloat16().requires_grad_() for t in (weight, bias, scale, shift)]
    y = ops.group_norm_act(x, 2, *narrow)
    assert torch.equal(y, ops.group_norm_act(x, 2, *[t.detach().float() for t in narrow]))
    grads = torch.autograd.grad(y.float().sum(), narrow)
    assert all(g.dtype == torch.bfloat16 and g.abs().sum() > 0 for g in grads)
    leaf = x.float().requires_grad_()
    assert ops.group_norm_act(leaf, 2, weight).sum().backward() is None and leaf.grad is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("shape", "groups"), SHAPES, ids=str)
def test_small_tensors_are_read_as_they_are(shape, groups, dtype):
    """The bits of the same numbers in float32, each in a dtype of its own, wherever a row begins."""
    x, *small = arguments(shape, dtype)
    names = ("weight", "bias", "scale", "shift")
    whole, each = small[0].to(dtype), small[2].to(dtype)
    for layout in laid_out(shape):
        x = x.contiguous(memory_format=layout)
        for narrow in (names, names[:2], names[2:], names[:1], names[3:]):
            given = {name: t.to(dtype) if name in narrow else t for name, t in zip(names, small)}
            same = {name: t.to(dtype).float() if name in narrow else t for name, t in zip(names, small)}
            for add in (None, whole, each):
                y = ops.group_norm_act(x, groups, **given, add=add)
                assert torch.equal(y, ops.group_norm_act(x, groups, **same, add=None if add is None else add.float()))
    leaves, others = ([t.detach().clone().requires_grad_() for t in given.values()] for given in (given, same))
    for tensors in (leaves, others):
        ops.group_norm_act(x, groups, *tensors).float().square().sum().backward()
    assert all(torch.equal(leaf.grad, other.grad.to(leaf.dtype)) for leaf, other in zip(leaves, others))


@pytest.mark.skipif(extension.build_info()["emulated"], reason="of the CPU kernels")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(6, 128, 128, 128), (9, 96, 117, 131)], ids=str)
def test_what_is_written_past_the_cache_is_what_a_sample_alone_gets(shape, dtype):
    """Large outputs are; a sample by itself is not.  Rows of registers that are aligned, and others."""
    for layout in laid_out(shape):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(dtype).contiguous(memory_format=layout)
        y = ops.group_norm_act(x, 32, act="silu")
        for n in (0, shape[0] - 1):
            assert torch.equal(y[n : n + 1], ops.group_norm_act(x[n : n + 1], 32, act="silu"))


# Groups that one block holds, a cluster, or neither; slices of channels, whole channels, single values; slabs of many
# groups and of one, narrower ones at the end.
LARGE = [
    ((2, 8, 64, 64), 2),
    ((1, 2, 200, 210), 1),
    ((1, 6, 181, 97), 2),
    ((2, 96, 40, 36), 3),
    ((1, 40, 23, 64), 4),
    ((1, 1040, 4, 4), 1),
    ((1, 8, 250, 300), 1),
    ((3, 2000, 2), 1),
    ((1, 8, 140, 144), 1),
]


@pytest.mark.skipif(not extension.build_info()["emulated"], reason="what a block may have is emulated")
@pytest.mark.parametrize("kib", [48, 99, 163, 227])
@pytest.mark.parametrize(("shape", "groups"), LARGE, ids=str)
def test_parts_of_a_group_whatever_a_block_may_have(shape, groups, kib):
    extension.set_shared_memory(kib << 10)
    for layout, dtype in itertools.product(laid_out(shape), (torch.float32, torch.bfloat16)):
        tensors = arguments(shape, dtype, mean=2.0)
        x, *small = (t.detach().requires_grad_() for t in tensors)
        y = ops.group_norm_act(x.contiguous(memory_format=layout), groups, *small)
        dy = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        found = y, *torch.autograd.grad(y, (x, *small), dy)
        leaves = [t.double().requires_grad_() for t in tensors]
        exact = ops.group_norm_act_reference(leaves[0], groups, *leaves[1:])
        expected = exact, *torch.autograd.grad(exact, leaves, dy.double())
        for a, b in zip(found, expected):
            near = 1e-4 if a.ndim < x.ndim else 8 * torch.finfo(dtype).eps
            assert (a.double() - b).abs().max() <= near * b.abs().max(), (layout, dtype, a.shape)


ADDED = {"channels": lambda N, C, shape: (C,), "rows": lambda N, C, shape: (N, C), "like x": lambda N, C, shape: shape}


def added(kind, shape, dtype, seed=5):
    """What is added to x, (C,), (N, C) or like it, which alone is as narrow as x."""
    size = ADDED[kind](*shape[:2], shape)
    add = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    return add.to(dtype) if kind == "like x" else add


@pytest.mark.parametrize("kib", [48, 227] if extension.build_info()["emulated"] else [0])
@pytest.mark.parametrize("kind", ADDED)
@pytest.mark.parametrize(("shape", "groups"), [*SHAPES[1:], LARGE[0], LARGE[2], ((2, 32, 64, 64), 8)], ids=str)
def test_what_is_added_is_rounded_then_normalized(shape, groups, kind, kib):
    if kib:
        extension.set_shared_memory(kib << 10)
    for layout, dtype in itertools.product(laid_out(shape), (torch.float32, torch.bfloat16)):
        x, *small = arguments(shape, dtype, mean=1.0)
        x, add = x.contiguous(memory_format=layout), added(kind, shape, dtype)
        spread = add.reshape(*add.shape, *[1] * (x.ndim - 2)) if add.ndim < x.ndim else add
        total = (x + spread).to(dtype).contiguous(memory_format=layout)
        y, found = ops.group_norm_act(x, groups, *small, add=add, return_sum=True)
        assert torch.equal(found, total) and found.stride() == x.stride()
        assert torch.equal(y, ops.group_norm_act(total, groups, *small))
        assert torch.equal(y, ops.group_norm_act(x, groups, *small, add=add))
        reference = ops.group_norm_act_reference(x, groups, *small, add=add, return_sum=True)
        assert torch.equal(reference[1], total) and reference[0].dtype == dtype


@pytest.mark.parametrize("kind", ADDED)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gradients_of_what_is_added_and_through_the_sum(kind, layout, dtype):
    shape = (3, 16, 8, 12)
    x, *small = arguments(shape, dtype, mean=1.0)
    tensors = (x, added(kind, shape, dtype), *small)
    dy, to_sum = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1)).to(dtype)

    def gradients(function, convert, outputs):
        leaves = [convert(t).detach().requires_grad_() for t in tensors]
        like = leaves[0].contiguous(memory_format=layout)
        y, total = function(like, 4, *leaves[2:], add=leaves[1], return_sum=True)
        pairs = {"both": (y, total), "y": (y,), "sum": (total,)}[outputs]
        return torch.autograd.grad(pairs, leaves, [g.to(y) for g in (dy, to_sum)[-len(pairs) :]], allow_unused=True)

    for outputs in ("both", "y", "sum"):
        exact = gradients(ops.group_norm_act_reference, torch.Tensor.double, outputs)
        eager = gradients(ops.group_norm_act_reference, torch.clone, outputs)
        for a, b, c in zip(gradients(ops.group_norm_act, torch.clone, outputs), eager, exact):
            a, c = (torch.zeros(()) if g is None else g for g in (a, c))
            b = torch.zeros(()) if b is None else b
            error, allowed = (a.double() - c).abs().max(), (b.double() - c).abs().max()
            assert error <= 2 * allowed + torch.finfo(dtype).eps * max(1, c.abs().max()), (outputs, a.shape)


def test_without_anything_added_the_sum_is_x():
    x = arguments((2, 8, 4, 4))[0]
    y, total = ops.group_norm_act(x, 2, return_sum=True)
    assert total is x and torch.equal(y, ops.group_norm_act(x, 2))
    empty = ops.group_norm_act(torch.empty(0, 8, 4), 2, add=torch.ones(8), return_sum=True)
    assert [t.shape for t in empty] == [(0, 8, 4)] * 2


X = torch.zeros(2, 6, 4, 4)
BAD = {
    "groups": (lambda: ops.group_norm_act(X, 4), "groups must divide the 6 channels of x; got 4"),
    "no groups": (lambda: ops.group_norm_act(X, 0), "groups must divide"),
    "rank": (lambda: ops.group_norm_act(torch.zeros(3), 1), r"x must have shape \(N, C, \*\); got \(3,\)"),
    "dtype": (lambda: ops.group_norm_act(X.long(), 2), "x must be float32, bfloat16 or float16; got int64"),
    "weight": (lambda: ops.group_norm_act(X, 2, torch.ones(5)), r"weight must have shape \(6,\); got \(5,\)"),
    "bias": (lambda: ops.group_norm_act(X, 2, None, torch.ones(6, 1)), "bias must have shape"),
    "scale": (lambda: ops.group_norm_act(X, 2, scale=torch.ones(6)), r"scale must have shape \(2, 6\); got \(6,\)"),
    "shift": (
        lambda: ops.group_norm_act(X, 2, shift=torch.ones(3, 6)),
        r"shift must have shape \(2, 6\); got \(3, 6\)",
    ),
    "add": (lambda: ops.group_norm_act(X, 2, add=torch.ones(5)), r"add must have shape \(6,\); got \(5,\)"),
    "add like x": (lambda: ops.group_norm_act(X, 2, add=X[:1]), r"add must have the shape of x, \(2, 6, 4, 4\); got"),
    "add by rows": (lambda: ops.group_norm_act(X, 2, add=X[0, 0]), r"add must have shape \(2, 6\); got \(4, 4\)"),
    "act": (lambda: ops.group_norm_act(X, 2, act="relu"), "act must be one of none, silu, gelu, gelu_tanh; got 'relu'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_named(name):
    call, message = BAD[name]
    with pytest.raises((ValueError, RuntimeError), match=message):
        call()
