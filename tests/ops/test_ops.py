"""Every op through its Case: accuracy, bits, layouts, gradients, tracing.  What is special to one op is in
test_<op>.py.

With GENFAST_EMULATE=1 the whole file runs through the CUDA twins, on the host.
"""

import functools
import itertools
from pathlib import Path

import fuzz
import pytest
import torch
from cases import ISAS, channels_last, equal, expanded, make, run, shifted, sliced, transposed, widen
from torch.overrides import BaseTorchFunctionMode

import genfast.ops
from genfast._extension import extension
from genfast.testing import CASES, to

EMULATED = extension.build_info()["emulated"]
NOT_OPS = {"__init__", "activations", "dispatch"}
OPS = sorted({path.stem for path in Path(genfast.ops.__file__).parent.glob("*.py")} - NOT_OPS)
OPS += [f"{name}_backward" for name in OPS if hasattr(torch.ops.genfast, f"{name}_backward")]
SIZES = [0, 1, 7, 63, 64, 65, 2048, 4097]
ROUNDING = 8 * torch.finfo(torch.float32).eps
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def through_cuda(request):
    """Calls a function of arguments through the CUDA twins: on a GPU and back, or emulated on the host."""
    if EMULATED:
        return lambda function, args: function(args)
    cuda = request.getfixturevalue("cuda")
    return lambda function, args: [t.cpu() for t in function(to(args, lambda t: t.to(cuda)))]


@pytest.fixture(params=["cuda"] if EMULATED else ["cpu", "cuda"])
def twin(request):
    """Calls a function of arguments through the twins of one device."""
    return through_cuda(request) if request.param == "cuda" else lambda function, args: function(args)


def on_the_cpu(case, args):
    if not EMULATED:
        return run(case, args)
    extension.set_emulating(False)
    out = run(case, args)
    extension.set_emulating(True)
    return out


def assert_accurate(case, args, outs):
    """At most twice the error of the same arithmetic in torch, plus an ulp of the output, against float64."""
    if case.name in ("normal", "uniform"):
        references, eagers = case.eager(**args), [r.to(args["dtype"]) for r in case.eager(**args)]
    else:
        references, eagers = case.eager(**to(widen(args), torch.clone)), case.eager(**to(args, torch.clone))
    for out, reference, eager in zip(outs, references, eagers, strict=True):
        assert out.shape == reference.shape
        assert_near(out, reference, eager)


def assert_near(value, reference, eager, rounding=ROUNDING):
    """A value in a narrow dtype, as right as torch's `eager` one, of what is `reference` in float64."""
    if not reference.numel():
        return
    reference = reference.double()
    error, allowed = ((t.double() - reference).nan_to_num(0).abs().max() for t in (value, eager))
    assert torch.equal(value.isnan(), reference.isnan())
    assert error <= 2 * allowed + rounding * reference.nan_to_num(0).abs().max(), value.dtype


@every_case
@pytest.mark.parametrize("features", SIZES)
def test_accuracy(case, features, twin):
    for dtype in case.dtypes:
        args = make(case, (3, features), dtype)
        out = twin(functools.partial(run, case), args)
        if features or case.name != "nearest":  # without features all are ties
            assert_accurate(case, args, out)


@every_case
@pytest.mark.parametrize("isa", ISAS[:-1])
def test_instruction_sets_agree(case, isa, restore):
    if EMULATED:
        extension.set_emulating(False)
    for dtype, shape in itertools.product(case.dtypes, [(3, n) for n in SIZES] + [(2, 3, 7, 13), (2, 3, 16, 24)]):
        args = make(case, shape, dtype)
        extension.set_isa(extension.best_isa())
        expected = run(case, args)
        extension.set_isa(isa)
        assert equal(run(case, args), expected), (dtype, shape)


@every_case
@pytest.mark.gpu
def test_cuda_twin(case, restore, request):
    """What the case promises of the CUDA kernel: the bits of the CPU kernel, or an error."""
    cuda = through_cuda(request)
    for dtype, shape in itertools.product(
        case.dtypes, [(3, n) for n in SIZES] + [(2, 3, 7, 13), (2, 3, 16, 24), (2, 3, 2100, 1), (300, 5)]
    ):
        args = make(case, shape, dtype)
        for laid in (args, to(args, channels_last)) if case.layouts != "contiguous" else (args,):
            out = cuda(functools.partial(run, case), laid)
            if case.contract == "bits":
                assert equal(out, on_the_cpu(case, laid)), (dtype, shape)
            else:
                assert_accurate(case, laid, out)


@pytest.mark.skipif(not EMULATED, reason="a GPU has the shared memory that it has")
@every_case
@pytest.mark.parametrize("kib", [48, 99, 163, 227])
def test_every_amount_of_shared_memory(case, kib, restore):
    """Rows that fit into what a block may have on each kind of GPU, and rows that do not."""
    extension.set_shared_memory(kib << 10)
    for features in (9_000, 20_000, 30_000, 50_000):
        args = make(case, (1, features))
        out = run(case, args)
        if case.contract == "bits":
            assert equal(out, on_the_cpu(case, args)), features
        else:
            assert_accurate(case, args, out)


@every_case
def test_threads_agree(case, restore):
    args = make(case, (7, 30_011))
    torch.set_num_threads(1)
    one = run(case, args)
    torch.set_num_threads(2)
    assert equal(run(case, args), one)


BATCHES = list(itertools.starmap(slice, itertools.pairwise((0, 1, 6, 11))))  # of one, of five, and all in one of eleven


def batches(case):
    """Arguments of a batch of eleven in the layouts that the case takes."""
    laid = (torch.clone, channels_last) if case.layouts != "contiguous" else (torch.clone,)
    return [to(make(case, shape), how) for shape in ((11, 67), (11, 3, 7, 13), (11, 8, 16, 24)) for how in laid]


def joined(case, pieces):
    return [torch.cat(p, 1 if i == 2 else 0) for i, p in enumerate(zip(*pieces, strict=True))]  # history is third


@every_case
def test_a_row_is_the_same_in_any_batch(case, twin):
    for args in batches(case):
        pieces = [twin(functools.partial(run, case), case.rows(args, rows)) for rows in BATCHES]
        assert equal(joined(case, pieces), twin(functools.partial(run, case), args))


@every_case
@pytest.mark.parametrize("shape", [(2, 3, 7, 13), (2, 3, 16, 24), (2, 17, 8, 8)])
def test_channels_last_agrees(case, shape):
    """The same bits, or where sums are taken in another order the same to rounding, in the memory format that came."""
    if case.name in ("normal", "uniform") or case.layouts == "contiguous":
        pytest.skip("makes contiguous tensors")
    for dtype in case.dtypes:
        args = make(case, shape, dtype)
        laid = to(args, channels_last)
        out = case.op(**laid)
        if case.layouts == "exact":
            assert equal(out, run(case, args))
        else:
            for a, b in zip(out, run(case, args), strict=True):
                torch.testing.assert_close(a, b, rtol=4 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps)
        assert all(t.is_contiguous(memory_format=torch.channels_last) for t in out if t.ndim == 4)


@every_case
@pytest.mark.parametrize("laid", [sliced, transposed, expanded])
@pytest.mark.parametrize("shape", [(5, 64), (2, 3, 6, 8), (0, 4, 6, 8)])
def test_strides_of_what_is_read(case, laid, shape):
    """Any are taken, with the same bits; what is written to must be dense, and is named where it is not."""
    args = make(case, shape)
    used = to(args, torch.clone)
    case.op(**used)
    for name, value in args.items():
        if not isinstance(value, torch.Tensor | tuple):
            continue
        given = to({name: value.clone() if isinstance(value, torch.Tensor) else value}, laid)
        apart = to(args, torch.clone) | given
        if isinstance(value, torch.Tensor) and not torch.equal(value, used[name]):  # it is written to
            if not given[name].is_contiguous():
                with pytest.raises(RuntimeError, match=rf"{name}(\[\w+\])? must "):
                    case.op(**apart)
        else:
            packed = to(given, lambda t: t.clone(memory_format=torch.contiguous_format))
            assert equal(case.op(**apart), run(case, args | packed)), name


PLANNED = ("coefficients", "codes")  # of a plan, whose op refuses them elsewhere


@every_case
@pytest.mark.parametrize("shape", [(3, 7, 328), (2, 8, 4, 6)])
def test_the_place_in_memory(case, shape, twin):
    """An op and its backward give the same bits of tensors that begin anywhere: one after the other, and all."""

    def answers(op, places, args):
        args = to(args, torch.clone)
        args |= to({at: args[at] for at in places}, shifted)
        outs = op(*args.values())
        outs = outs if isinstance(outs, tuple) else (outs,)
        return [t for t in (*outs, *args.values()) if isinstance(t, torch.Tensor)]  # some are written to

    for dtype in case.dtypes:
        for op, calls in fuzz.calls_of(case, (shape,), dtype).items():
            names = [argument.name for argument in op._schema.arguments]
            for args in (dict(enumerate(call)) for call in calls):
                expected = twin(functools.partial(answers, op, ()), args)
                tensors = [at for at, value in args.items() if isinstance(value, torch.Tensor | list)]
                tensors = [at for at in tensors if names[at] not in PLANNED]
                for places in (*([at] for at in tensors), tensors):
                    found = twin(functools.partial(answers, op, places), args)
                    assert equal(found, expected), (op, dtype, [names[at] for at in places])


@every_case
def test_repeats(case, twin):
    args = make(case, (4, 5000))
    assert equal(twin(functools.partial(run, case), args), twin(functools.partial(run, case), args))


def scalar_loss(outs):
    def weighted(out):
        return out.double() * torch.linspace(-1, 1, out.numel(), device=out.device).reshape(out.shape)

    return sum(weighted(out).sum() for out in outs)


DIFFERENTIABLE = [c for c in CASES.values() if c.differentiable]
differentiable = pytest.mark.parametrize("case", DIFFERENTIABLE, ids=lambda c: c.name)


@differentiable
def test_gradients_of_the_kernel(case, twin):
    """First and second derivatives of the fused op against float64, as right as those of torch."""
    for dtype in case.dtypes:
        args = make(case, (3, 70), dtype)
        if case.name == "denoising_loss":
            args["net"] = args["net"] + 1

        def derivatives(args, function=case.op):
            args = to(args, lambda t: t.detach().clone())
            leaves = [args[name].requires_grad_() for name in case.differentiable]
            first = torch.autograd.grad(scalar_loss(function(**args)), leaves, create_graph=True)
            second = []
            if any(g.requires_grad for g in first):  # the others are linear
                total = sum(g.double().pow(2).sum() for g in first)
                second = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
            return [*first, *second]

        rounding = max(ROUNDING, torch.finfo(dtype).eps)  # of what waits for the backward
        wide, eager = derivatives(widen(args)), derivatives(args, case.eager)
        for name, a, b, c in zip(itertools.cycle(case.differentiable), twin(derivatives, args), wide, eager):
            assert a.dtype == args[name].dtype
            assert_near(a, b, c, rounding)


@differentiable
def test_the_gradient_of_a_row_is_the_same_in_any_batch(case, twin):
    """And in every run."""
    own = [name for name in case.differentiable if name not in case.shared]

    def gradients(args):
        args = to(args, torch.detach)
        leaves = [args[name].requires_grad_() for name in own]
        outs = case.op(**args)
        weights = [torch.linspace(-1, 1, out[0].numel()).to(out).reshape(out[0].shape).expand_as(out) for out in outs]
        return torch.autograd.grad(outs, leaves, weights)

    for args in batches(case):
        whole = twin(gradients, args)
        pieces = [twin(gradients, case.rows(args, rows)) for rows in BATCHES]
        assert equal([torch.cat(p) for p in zip(*pieces, strict=True)], whole)
        assert equal(twin(gradients, args), whole)


@differentiable
def test_gradcheck(case):
    args = widen(make(case, (2, 5)))
    leaves = [args[name].requires_grad_() for name in case.differentiable]

    def function(*values):
        return case.op(**{**args, **dict(zip(case.differentiable, values, strict=True))})

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


@every_case
@pytest.mark.parametrize("shape", [(3, 20), (2, 3, 4, 5)])
def test_every_argument_mapped(case, shape, capfd):
    """vmap over whole calls gives what call after call gives, without a word of torch's that asks for an issue."""
    calls = [make(case, shape), make(case, shape)]
    for name, value in calls[1].items():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and name not in case.shared:
            calls[1][name] = value.flip(0).contiguous()
    names = [name for name, value in calls[0].items() if isinstance(value, torch.Tensor)]

    def mapped(*tensors):
        return tuple(out for out in case.op(**calls[0] | dict(zip(names, tensors, strict=True))) if out is not None)

    stacked = [torch.stack([args[name] for args in calls]) for name in names]
    if "step" in case.name:
        with pytest.raises(RuntimeError, match=r"step: x must not be mapped by torch\.func, for the first dim"):
            torch.vmap(mapped)(*stacked)
        return
    apart = [[out for out in case.op(**to(args, torch.clone)) if out is not None] for args in calls]
    together = torch.vmap(mapped)(*stacked)
    for out, parts in zip(together, zip(*apart, strict=True), strict=True):
        torch.testing.assert_close(out, torch.stack(parts), rtol=1e-5, atol=1e-5)
    assert "file us an issue" not in capfd.readouterr().err


@differentiable
def test_function_transforms(case):
    """jvp, grad and vmap: a custom op would give silently zero tangents, or fail."""
    args = make(case, (3, 20))
    leaves = tuple(args[name] for name in case.differentiable)
    generator = torch.Generator().manual_seed(1)
    tangents = tuple(torch.randn(t.shape, generator=generator) for t in leaves)

    def function(*values):
        return case.op(**{**args, **dict(zip(case.differentiable, values, strict=True))})[0]

    step = 1e-6
    wide = widen(args)

    def shifted(by):
        moved = {n: wide[n] + by * t.double() for n, t in zip(case.differentiable, tangents, strict=True)}
        return case.op(**{**wide, **moved})[0]

    expected = (shifted(step) - shifted(-step)) / (2 * step)
    assert expected.abs().max() > 0.01
    for tangent in (torch.func.jvp(function, leaves, tangents)[1], forward_mode(function, leaves, tangents)):
        torch.testing.assert_close(tangent.double(), expected, rtol=1e-4, atol=1e-4)

    gradient = torch.func.grad(lambda *v: function(*v).sum())(*leaves)
    live = [t.clone().requires_grad_() for t in leaves]
    function(*live).sum().backward()
    torch.testing.assert_close(gradient, live[0].grad, rtol=1e-5, atol=1e-6)

    stacked = torch.func.vmap(lambda v: function(v, *leaves[1:]))(torch.stack([leaves[0], 2 * leaves[0]]))
    torch.testing.assert_close(stacked[1], function(2 * leaves[0], *leaves[1:]), rtol=1e-5, atol=1e-5)


def forward_mode(function, leaves, tangents):
    import torch.autograd.forward_ad as forward_ad

    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, t) for x, t in zip(leaves, tangents, strict=True)]
        return forward_ad.unpack_dual(function(*duals)).tangent


def recorded(monkeypatch):
    """A list that fills with (op, arguments) of every call of a registered op from here on: of every op, for as long as
    a mode is on, which keeps raw ones from being called."""
    calls = []
    for name in OPS:
        packet = getattr(torch.ops.genfast, name)
        monkeypatch.setattr(
            torch.ops.genfast,
            name,
            functools.wraps(packet)(lambda *a, packet=packet: calls.append((packet, a)) or packet(*a)),
        )
    return calls


def test_every_op_has_a_case(monkeypatch):
    """An op that no case calls would be tested for nothing."""
    calls = recorded(monkeypatch)
    with BaseTorchFunctionMode():
        for case in CASES.values():
            case.op(**make(case, (3, 65)))
    called = {packet._qualified_op_name.removeprefix("genfast::") for packet, _ in calls}
    missing = {name for name in OPS if not name.endswith("_backward")} - called
    assert not missing, f"no Case in genfast/testing calls {missing}"


@every_case
def test_opcheck(case, monkeypatch):
    """Schema, fake kernel, autograd registration and AOT dispatch of every op that the case calls."""
    calls = recorded(monkeypatch)
    for shape, dtype in (((3, 65), torch.float32), ((2, 3, 4, 4), torch.bfloat16), ((0, 65), torch.float32)):
        args = make(case, shape, dtype)
        for name in case.differentiable:
            args[name].requires_grad_()
        with BaseTorchFunctionMode():
            case.op(**args)
    monkeypatch.undo()
    assert calls
    for packet, a in calls:
        torch.library.opcheck(
            packet.default,
            [t.detach().clone().requires_grad_(t.requires_grad) if isinstance(t, torch.Tensor) else t for t in a],
        )


@every_case
def test_compiles(case):
    """One graph, no break, the same bits."""
    torch._dynamo.reset()
    args = make(case, (3, 2, 4, 4))
    fixed = {k: v for k, v in args.items() if not isinstance(v, (torch.Tensor, tuple)) or k in ("shape", "clamp")}
    rest = {k: v for k, v in args.items() if k not in fixed}
    compiled = torch.compile(lambda **kw: case.op(**kw, **fixed), fullgraph=True, backend="aot_eager")
    assert equal(compiled(**to(rest, torch.clone)), run(case, args))


@every_case
def test_allocates_only_its_outputs(case):
    """And a little scratch: statistics, and coefficients of a row."""
    args = make(case, (4, 40_000))
    run(case, args)
    copies = to(args, torch.clone)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        out = case.op(**copies)
    allocated = sum(max(e.self_cpu_memory_usage, 0) for e in profile.events() if hasattr(e, "self_cpu_memory_usage"))
    kept = sum(t.numel() * t.element_size() for t in out if not any(t is v for v in copies.values()))
    scratch = 8 * 4 * 4 * (40_000 // 2048 + 1) if EMULATED else 0  # of the CUDA reductions, at most 8 sums
    assert allocated <= kept + scratch + 0.02 * kept + 1024, (allocated, kept)
