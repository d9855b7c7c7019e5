"""Normalization and modulation of tokens: hard shapes, known answers, and the bits of its backward."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from cases import ISAS
from helpers import normal32

from genfast import ops
from genfast._extension import extension

EMULATED = extension.build_info()["emulated"]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
FEATURES = [1, 7, 63, 64, 65, 768, 2049]


# ---- accuracy ----


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("shape", [(1, 3), (2, 130)])
def test_error_is_at_most_twice_that_of_torch(features, mean, shape):
    """Outputs and gradients against float64, in units of the largest; mean is in standard deviations."""
    for dtype, rms in itertools.product(DTYPES, (False, True)):
        x = (normal32(*shape, features) + mean).to(dtype)
        scale, shift, weight, upstream = (
            normal32(*s, seed=i).to(dtype)
            for i, s in enumerate([(shape[0], features), (shape[0], features), (features,), (*shape, features)], 1)
        )

        def results(norm, wide, tensors=(x, scale, shift, weight), rms=rms, upstream=upstream):
            leaves = [t.to(torch.float64 if wide else t.dtype).requires_grad_() for t in tensors]
            x, scale, shift, weight = leaves
            out = norm(x, scale, shift, weight, rms)
            return out, *torch.autograd.grad(out, leaves, upstream.to(out.dtype))

        ours = results(fused, False)
        theirs = results(plain, False)
        exact = results(plain, True)
        for name, a, b, c in zip(["y", "x", "scale", "shift", "weight"], ours, theirs, exact, strict=True):
            error, allowed = (a.double() - c).abs().max(), (b.double() - c).abs().max()
            slack = 8 * torch.finfo(torch.float32).eps * c.abs().max() + 1e-30
            assert a.dtype == dtype and error <= 2 * allowed + slack, (dtype, rms, name, error, allowed)


# Widths for each way to share a row among the threads of a block, on a GPU; the last is too wide for all of them.
WIDTHS = [(torch.bfloat16, n) for n in (504, 768, 1152, 2040, 3072, 6136, 6152)]
WIDTHS += [(torch.float32, n) for n in (252, 384, 640, 1020, 1152, 3068, 3076)]
WIDTHS += [(torch.float16, n) for n in (64, 2048)]


@pytest.mark.skipif(not EMULATED, reason="a GPU has the shared memory that it has")
@pytest.mark.parametrize("kib", [48, 99, 163, 227])
def test_rows_for_every_block_of_threads(kib, restore):
    extension.set_shared_memory(kib << 10)
    for dtype, features in WIDTHS:
        x, y, upstream, other = (normal32(2, 35, features, seed=i).to(dtype) for i in range(4))
        gate, scale, shift = (normal32(2, features, seed=i).to(dtype) for i in range(4, 7))

        def results(norm, wide, tensors=(x, y, gate, scale, shift), upstream=(upstream, other)):
            leaves = [t.to(torch.float64 if wide else t.dtype).requires_grad_() for t in tensors]
            out = norm(*leaves)
            return *out, *torch.autograd.grad(out, leaves, [u.to(out[0].dtype) for u in upstream])

        def fused_residual(x, y, gate, scale, shift):
            return ops.gate_residual_norm_modulate(x, gate, y, scale, shift)

        def plain_residual(x, y, gate, scale, shift):
            v = x + gate[:, None] * y
            return v, ops.norm_modulate_reference(v, scale, shift)

        ours, theirs = results(fused_residual, False), results(plain_residual, False)
        exact = results(plain_residual, True)
        for name, a, b, c in zip(["v", "n", "x", "y", "gate", "scale", "shift"], ours, theirs, exact, strict=True):
            error, allowed = (a.double() - c).abs().max(), (b.double() - c).abs().max()
            slack = 8 * torch.finfo(torch.float32).eps * c.abs().max()
            assert a.dtype == dtype and error <= 2 * allowed + slack, (dtype, features, name, error, allowed)
        whole, each = ops.layer_norm_modulate(x, scale, shift), (slice(0, 1), slice(1, 2))
        assert torch.equal(whole, torch.cat([ops.layer_norm_modulate(x[i], scale[i], shift[i]) for i in each]))


def fused(x, scale, shift, weight, rms):
    function = ops.rms_norm_modulate if rms else ops.layer_norm_modulate
    return function(x, scale, shift, weight=weight)


def plain(x, scale, shift, weight, rms):
    return ops.norm_modulate_reference(x, scale, shift, weight, rms=rms)


def test_a_large_mean_or_an_outlier_costs_no_variance():
    """Relative error of 1 / std, against float64: a mean of 100 std, and a first element of 1000 std of the others."""
    x = normal32(4, 8, 768) + 100
    spiked = normal32(4, 8, 768)
    spiked[..., 0] = 1000
    for rows in (x, spiked):
        rstd = torch.ops.genfast.norm_modulate(rows, None, None, None, None, None, None, 0.0, False, True)[2][1]
        exact = rows.double().var(-1, correction=0).rsqrt().flatten()
        assert ((rstd - exact) / exact).abs().max() < 2e-7


# ---- known answers ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_one_number(dtype):
    """A constant row is its mean: (1 + scale) bias + shift is left; and x_hat = +-1 of a row of +-c."""
    scale, shift, bias = (normal32(2, 8, seed=1), normal32(2, 8, seed=2), normal32(8, seed=3))
    x = torch.full((2, 5, 8), 3.0, dtype=dtype)
    expected = ((1 + scale) * bias + shift).to(dtype)[:, None].expand(2, 5, 8)
    torch.testing.assert_close(ops.layer_norm_modulate(x, scale, shift, bias=bias), expected)
    signs = torch.tensor([1.0, -1.0] * 4, dtype=dtype).expand(2, 5, 8).contiguous()
    assert torch.equal(ops.layer_norm_modulate(4 * signs + 2, eps=0.0), signs)
    assert torch.equal(ops.rms_norm_modulate(4 * signs, eps=0.0), signs)


def test_the_residual():
    """With a gate of 0 the residual comes back as it is, and is normalized as without; a gate of 1 adds."""
    residual, y = normal32(2, 9, 24), normal32(2, 9, 24, seed=1)
    r, n = ops.gate_residual_norm_modulate(residual, torch.zeros(2, 24), y)
    assert torch.equal(r, residual) and torch.equal(n, ops.layer_norm_modulate(residual))
    r, n = ops.gate_residual_norm_modulate(residual, torch.ones(2, 24), y, rms=True)
    assert torch.equal(r, residual + y) and torch.equal(n, ops.rms_norm_modulate(residual + y))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_norm_is_of_the_sum_before_it_is_rounded(dtype):
    residual, y = normal32(2, 9, 24).to(dtype), normal32(2, 9, 24, seed=1).to(dtype)
    gate = 0.01 * normal32(2, 24, seed=2)
    r, n = ops.gate_residual_norm_modulate(residual, gate, y)
    wide, exact = ops.gate_residual_norm_modulate(residual.float(), gate, y.float())
    assert torch.equal(r, wide.to(dtype)) and torch.equal(n, exact.to(dtype))
    assert not torch.equal(n, ops.layer_norm_modulate(r))


def test_queries_and_keys():
    """(B, heads, tokens, D), one weight for all."""
    q, weight = normal32(2, 3, 70, 64), normal32(64, seed=1)
    torch.testing.assert_close(ops.rms_norm_modulate(q, weight=weight), F.rms_norm(q, (64,), weight, 1e-6))


# ---- tables, dtypes, empty tensors ----


def test_columns_of_a_wider_table_are_taken_as_they_are():
    x, table = normal32(3, 5, 16), normal32(3, 100, seed=1)
    for step in (16, 17):  # aligned to 16 bytes, and not
        gate, scale, shift = (table[:, i * step : i * step + 16] for i in range(3))
        dense = [t.contiguous() for t in (gate, scale, shift)]
        y = ops.gate_residual_norm_modulate(x, gate, 2 * x, scale, shift)
        assert all(map(torch.equal, y, ops.gate_residual_norm_modulate(x, dense[0], 2 * x, *dense[1:])))
    shared = table[:1, :16].expand(3, 16)
    assert torch.equal(ops.layer_norm_modulate(x, shared), ops.layer_norm_modulate(x, shared.contiguous()))


@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("features", [7, 64, 1152, 2056, 3072])
def test_small_tensors_are_read_as_they_are(features, dtype):
    """The bits of the same numbers in float32, wherever a row begins; all of one type, or float32 for all."""
    x, y = normal32(2, 3, features).to(dtype), normal32(2, 3, features, seed=1).to(dtype)
    table, row = normal32(2, 5 * features + 3, seed=2).to(dtype), normal32(2 * features + 1, seed=3).to(dtype)
    for at in (0, 3):
        gate, scale, shift = (table[:, at + k * features :][:, :features] for k in range(3))
        weight, bias = row[at % 2 :][:features], row[features:][:features]
        names = {"scale": scale, "shift": shift, "weight": weight, "bias": bias}
        for small in (names, {"scale": scale, "shift": shift}, {"weight": weight, "bias": bias}, {"shift": shift}):
            wide = {name: t.float() for name, t in small.items()}
            expected = ops.layer_norm_modulate(x, **wide), *ops.gate_residual_norm_modulate(x, gate.float(), y, **wide)
            found = ops.layer_norm_modulate(x, **small), *ops.gate_residual_norm_modulate(x, gate, y, **small)
            assert all(map(torch.equal, found, expected)), small.keys()
        mixed = ops.layer_norm_modulate(x, scale, shift.float(), weight=weight)
        assert torch.equal(mixed, ops.layer_norm_modulate(x, scale.float(), shift.float(), weight=weight.float()))
        with pytest.raises(RuntimeError, match="gate, weight, bias, scale and shift must be of one type"):
            torch.ops.genfast.norm_modulate(x, None, None, weight, None, scale.float(), None, 1e-6, False, False)


def test_small_tensors_of_another_dtype():
    x, y = normal32(2, 5, 16).bfloat16(), normal32(2, 5, 16, seed=1)
    scale, shift, gate = (normal32(2, 16, seed=i).requires_grad_() for i in (2, 3, 4))
    weight = normal32(16, seed=5).half().requires_grad_()
    r, n = ops.gate_residual_norm_modulate(x, gate, y, scale, shift, weight=weight)
    assert r.dtype == n.dtype == torch.bfloat16
    grads = torch.autograd.grad(n.float().square().sum() + r.sum(), (scale, shift, gate, weight))
    assert [g.dtype for g in grads] == [torch.float32] * 3 + [torch.float16]
    out = ops.gate_residual_norm_modulate(x, gate, y.float(), scale, shift, weight=weight)  # a y of another, too
    assert torch.equal(out[0], r) and torch.equal(out[1], n)
    with torch.autograd.forward_ad.dual_level():  # composed of torch's ops, the same dtypes
        assert ops.layer_norm_modulate(x, scale, shift).dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(0, 4, 8), (2, 0, 8), (2, 4, 0), (2, 8), (2, 3, 0, 8)])
@pytest.mark.parametrize("gated", [False, True])
def test_empty_tensors(shape, gated):
    small = [normal32(shape[0], shape[-1]).requires_grad_() for _ in range(3)]
    weight = normal32(shape[-1]).requires_grad_()
    x, y = (normal32(*shape).requires_grad_() for _ in range(2))
    if gated:
        out = sum(ops.gate_residual_norm_modulate(x, small[0], y, *small[1:], weight=weight))
    else:
        out = ops.layer_norm_modulate(x, *small[1:], weight=weight)
    assert out.shape == shape
    leaves = [x, *small[1:], weight, *((y, small[0]) if gated else ())]
    for leaf, grad in zip(leaves, torch.autograd.grad(out.sum(), leaves), strict=True):
        assert grad.shape == leaf.shape and (0 in leaf.shape or 0 not in shape or not grad.any())


# ---- gradients ----


def gradients(wanted, used, wide=False):
    """Of those of the arguments that are `wanted`, of the outputs that are `used`."""
    shapes = {"residual": (2, 70, 24), "gate": (2, 24), "y": (2, 70, 24), "scale": (2, 24), "shift": (2, 24)}
    shapes |= {"weight": (24,), "bias": (24,)}
    args = {n: normal32(*s, seed=i) for i, (n, s) in enumerate(shapes.items())}
    args = {n: t.double() if wide else t for n, t in args.items()}
    leaves = [args[n].requires_grad_() for n in wanted]
    outputs = ops.gate_residual_norm_modulate(**args)
    loss = sum((outputs[i].transpose(0, 1) ** 2 * (1 + i)).sum() for i in used)  # a gradient with gaps
    loss = loss + sum(0 * leaf.sum() for leaf in leaves)
    return torch.autograd.grad(loss, leaves)


NAMES = ("residual", "gate", "y", "scale", "shift", "weight", "bias")


@pytest.mark.parametrize("used", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("wanted", [NAMES, *((n,) for n in NAMES)], ids="-".join)
def test_gradients_of_what_is_wanted(wanted, used):
    for name, a, b in zip(wanted, gradients(wanted, used), gradients(wanted, used, wide=True), strict=True):
        assert (a - b).abs().max() <= 4e-6 * b.abs().max(), name


def test_nothing_is_kept_without_a_gradient():
    x, scale = normal32(2, 5, 16), normal32(2, 16).requires_grad_()
    with torch.no_grad():
        assert not ops.layer_norm_modulate(x, scale).requires_grad
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape), lambda t: t):
        kept = []
        ops.layer_norm_modulate(x, None, scale)
    assert sum(shape.numel() for shape in kept) == x.numel() + 2 * 10  # x, mean, rstd


# ---- bits ----


def op_args(shape, dtype, gated, rms):
    """Of the forward op and of its backward."""
    batch, features, rows = shape[0], shape[-1], shape[0] * shape[1]
    (a, b, c, d), small = [normal32(*shape, seed=i).to(dtype) for i in range(4)], normal32(batch, 3 * features, seed=4)
    scale, gate, shift = small.chunk(3, 1)
    moments = 1 + 0.1 * normal32(2 - rms, rows, seed=5)
    weight, bias = normal32(features, seed=6), normal32(features, seed=7)
    if gated:
        forward = a, b, gate, weight, bias, scale, shift, 1e-6, rms, True
        return forward, (a, b, c, d, moments, gate, weight, bias, scale, True, 15)
    return (a, *[None] * 6, 1e-6, rms, True), (a, None, c, None, moments, None, None, None, scale, True, 15)


def op_results(which, convert=lambda t: t):
    forward, backward = ([convert(a) if isinstance(a, torch.Tensor) else a for a in args] for args in op_args(*which))
    return *torch.ops.genfast.norm_modulate(*forward), *torch.ops.genfast.norm_modulate_backward(*backward)


BITS = list(itertools.product(
    [(2, 3, n) for n in (1, 7, 64, 65, 256, 512, 768, 2048, 2056, 4097)] + [(2, 130, 24), (3, 64, 9)], DTYPES,
    (False, True), (False, True),
))  # fmt: skip


def test_the_same_bits_on_every_cpu(restore):
    """Instruction sets and numbers of threads."""
    if EMULATED:
        extension.set_emulating(False)
    expected = [op_results(which) for which in BITS]
    for change in (*[lambda isa=isa: extension.set_isa(isa) for isa in ISAS],
                   lambda: torch.set_num_threads(1)):  # fmt: skip
        change()
        for which, before in zip(BITS, expected, strict=True):
            assert all(map(torch.equal, op_results(which), before)), which


def test_the_cuda_twin(restore, request):
    """A few roundings off the CPU twin, and the same bits again."""
    cuda = torch.device("cpu") if EMULATED else request.getfixturevalue("cuda")
    for which in BITS:
        first, second = ([t.cpu() for t in op_results(which, lambda t: t.to(cuda))] for _ in range(2))
        assert all(map(torch.equal, first, second)), which
        if EMULATED:
            extension.set_emulating(False)
        twin = op_results(which)
        for a, b in zip(first, twin, strict=True):
            off, largest = (t.double().flatten().norm(torch.inf) if t.numel() else 0 for t in (a - b, b))
            allowed = 16 * torch.finfo(b.dtype).eps
            if b is twin[-1]:  # sums of what was rounded, and may have been the other way
                allowed = max(allowed, torch.finfo(which[1]).eps)
            assert off <= allowed * largest, which
        if EMULATED:
            extension.set_emulating(True)


def test_the_gradient_of_a_sample_does_not_depend_on_its_batch():
    backward = torch.ops.genfast.norm_modulate_backward
    args = op_args((5, 130, 24), torch.float32, True, False)[1]
    whole = backward(*args)
    alone = [a[2:3] if isinstance(a, torch.Tensor) else a for a in args]
    alone[4], alone[6:8] = args[4].reshape(2, 5, 130)[:, 2].contiguous(), args[6:8]  # moments; weight, bias
    for i, (one, all_five) in enumerate(zip(backward(*alone), whole, strict=True)):
        assert i in (2, 3) or torch.equal(one[0], all_five[2])  # those of weight and bias are sums over samples


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("shape", [(3, 7, 24), (2, 130, 24), (2, 130, 9)])
@pytest.mark.parametrize("needs", [4, 8, 12])
def test_gradients_of_scale_and_shift_alone(gated, shape, needs):
    """Without weight and bias they are the sums over tokens themselves: the same bits as beside those of weight."""
    backward = torch.ops.genfast.norm_modulate_backward
    args = [*op_args(shape, torch.float32, gated, False)[1]]
    args[6:8] = None, None
    every, some = backward(*args), backward(*args[:-1], needs)
    for i, bit in ((4, 4), (5, 8)):
        assert torch.equal(some[i], every[i]) if needs & bit else some[i].numel() == 0
    assert some[2].numel() == some[3].numel() == 0 and torch.equal(some[6], every[6])
    assert some[6].shape == ((shape[0], shape[2]) if gated else (0,))


# ---- bad input ----

BAD = {
    "residual must be float32, bfloat16 or float16; got int64": {"residual": lambda t: t.long()},
    r"residual must have shape \(B, \*, D\); got \(2,\)": {"residual": lambda t: t[:, 0, 0].clone()},
    r"y must have the shape of residual, \(2, 5, 16\); got \(2, 4, 16\)": {"y": lambda t: t[:, :4].clone()},
    "y must be float32; got int64": {"y": lambda t: t.long()},
    r"gate must have shape \(2, 16\); got \(2, 1, 16\)": {"gate": lambda t: t[:, None]},
    r"scale must have shape \(2, 16\); got \(1, 16\)": {"scale": lambda t: t[:1]},
    "scale must be float32; got int64": {"scale": lambda t: t.long()},
    r"weight must have shape \(16,\); got \(15,\)": {"weight": lambda t: t[1:]},
    "weight must be float32; got int32": {"weight": lambda t: t.int()},
    r"bias must have shape \(16,\); got \(1, 16\)": {"bias": lambda t: t[None]},
    r"eps must lie in \[0, 3.40282e\+38\] when rounded to float32; got -1": {"eps": lambda t: -1.0},
    r"eps must lie in \[0, 3.40282e\+38\] when rounded to float32; got nan": {"eps": lambda t: float("nan")},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    args = {"residual": normal32(2, 5, 16), "y": normal32(2, 5, 16), "gate": normal32(2, 16), "eps": 1e-6}
    args |= {"scale": normal32(2, 16), "shift": normal32(2, 16), "weight": normal32(16), "bias": normal32(16)}
    ((name, change),) = BAD[message].items()
    with pytest.raises((RuntimeError, ValueError), match=message):
        ops.gate_residual_norm_modulate(**args | {name: change(args[name])})


def test_x_is_named_as_the_caller_names_it():
    with pytest.raises(RuntimeError, match="x must be float32, bfloat16 or float16; got int64"):
        ops.layer_norm_modulate(normal32(2, 5, 16).long())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("small", [torch.float32, torch.float16, torch.float64])
def test_small_tensors_of_another_dtype_are_converted_by_plain_torch_too(dtype, small):
    x, table, vector = torch.randn(2, 3, 8).to(dtype), torch.randn(2, 8).to(small), torch.randn(8).to(small)

    def norm(x):
        return ops.layer_norm_modulate(x, table, table, weight=vector, bias=vector)

    y, tangent = torch.func.jvp(norm, (x,), (torch.ones_like(x),))
    assert y.dtype == tangent.dtype == dtype
    close = 0.2 if torch.bfloat16 == dtype else 1e-2 if small == torch.float16 else 1e-5
    torch.testing.assert_close(y, norm(x), rtol=close, atol=close)


def test_plain_torch_refuses_tables_of_another_shape():
    with pytest.raises(ValueError, match=r"scale.* must have shape \(2, 8\); got \(8, 2\)"):
        ops.layer_norm_modulate(torch.randn(2, 3, 8).double(), torch.randn(8, 2))
    with pytest.raises(ValueError, match=r"scale.* must have shape \(2, 8\); got \(8, 2\)"):
        ops.group_norm_act(torch.randn(2, 8, 3).double(), 2, scale=torch.randn(8, 2))
