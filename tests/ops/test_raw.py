"""Raw ops, past torch's dispatcher: where they are called, that they are the registered ones to the bit, and what they
leave to those."""

import sys
import threading

import pytest
import torch
from torch.overrides import BaseTorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from genfast import ops
from genfast._extension import extension
from genfast.testing import CASES, to

raw = extension.raw
PAIRS = ("pairwise", "kernel_sums")  # take longer than any call costs
every_case = pytest.mark.parametrize("name", CASES)


class Seen(TorchDispatchMode):
    """The registered ops that are called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if op.namespace == "genfast":
            self.names.append(op._schema.name.removeprefix("genfast::"))
        return op(*args, **(kwargs or {}))


def made(name, dtype=torch.float32):
    return CASES[name].inputs((3, 4, 2, 8), dtype, torch.Generator().manual_seed(0))


def same(a, b):
    return all(
        x is None if y is None else torch.equal(x.nan_to_num(7), y.nan_to_num(7)) for x, y in zip(a, b, strict=True)
    )


def channels_last(t):
    if t.ndim == 5:  # history, k: each slot
        return t.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    return t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t


def stems(name):
    """The registered ops that a case calls, forward."""
    with Seen() as seen, torch.no_grad():
        CASES[name].op(**made(name))
    return set(seen.names)


@pytest.fixture
def no_registered(monkeypatch):
    """From here on a call of a registered op fails."""

    def refuse(stem):
        def call(*args):
            raise AssertionError(f"{stem} went through the dispatcher")

        return call

    for stem in dir(raw):
        if hasattr(torch.ops.genfast, stem) and not stem.startswith(PAIRS):
            monkeypatch.setattr(torch.ops.genfast, stem, refuse(stem))


@every_case
def test_a_mode_sees_every_op(name):
    assert stems(name)


@every_case
def test_without_a_gradient_no_op_goes_through_the_dispatcher(name, no_registered):
    for grad_mode in (torch.no_grad, torch.enable_grad, torch.inference_mode):
        for dtype in CASES[name].dtypes:
            with grad_mode():
                CASES[name].op(**made(name, dtype))


@every_case
def test_a_first_derivative_goes_past_the_dispatcher(name, no_registered):
    args = made(name)
    leaves = [args[leaf].requires_grad_() for leaf in CASES[name].differentiable]
    if leaves:
        outputs = [out for out in CASES[name].op(**args) if out.requires_grad]
        assert outputs
        grads = torch.autograd.grad(outputs, leaves, [torch.ones_like(out) for out in outputs], allow_unused=True)
        assert all(grad is not None and grad.isfinite().all() for grad in grads)


@every_case
def test_the_same_bits_as_through_the_dispatcher(name):
    """Forward and first derivatives, for contiguous and channels-last tensors, and those that must be copied first."""

    def results(laid):
        args = to(made(name), torch.clone)
        args = to(args, laid)
        leaves = [args[leaf].requires_grad_() for leaf in CASES[name].differentiable]
        outputs = list(CASES[name].op(**args))
        live = [out for out in outputs if out.requires_grad]
        ones = [torch.linspace(-1, 1, out.numel()).reshape(out.shape).to(out.dtype) for out in live]
        return [*outputs, *(torch.autograd.grad(live, leaves, ones) if leaves else ())]

    for laid in (torch.clone, channels_last) if name != "average" else (torch.clone,):  # samples are tensors
        past = results(laid)
        with BaseTorchFunctionMode():
            through = results(laid)
        assert same([t.detach() for t in past], [t.detach() for t in through])
        assert all(a.stride() == b.stride() and a.dtype == b.dtype for a, b in zip(past, through, strict=True))


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith(("nearest", "balls", "kernel"))])
def test_a_call_is_a_few_calls_of_python(name, no_registered):
    """Of functions, Python's and C's: what a call costs the host, on any machine."""
    args, counted = made(name), []

    def count(frame, event, what):
        if event in ("call", "c_call"):
            counted.append(frame.f_code.co_name if event == "call" else what.__name__)

    with torch.no_grad():
        CASES[name].op(**to(args, torch.clone))
        sys.setprofile(count)
        try:
            CASES[name].op(**args)
        finally:
            sys.setprofile(None)
    assert len(counted) <= 20, counted


# ---- what is left to the registered ops ----

X, W = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)), torch.ones(8)


class Other(torch.Tensor):
    pass


STRANGERS = {
    "a subclass": lambda: X.as_subclass(Other),
    "negated without a copy": lambda: torch._neg_view(X),
    "sparse": lambda: X.to_sparse(),
    "on the meta device": lambda: X.to("meta"),
    "opaque": lambda: X.to_mkldnn(),
    "functional": lambda: torch._to_functional_tensor(X),
    "complex": lambda: X.to(torch.complex64),
    "quantized": lambda: torch.quantize_per_tensor(X, 0.1, 0, torch.quint8),
    "no tensor": lambda: X.tolist(),
    "None": lambda: None,
    "of gaps": lambda: torch.cat([X, X], 1)[:, ::2],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", STRANGERS)
def test_tensors_that_are_no_plain_ones(kind):
    assert raw.bias_act(X, W, 1) is not NotImplemented
    assert raw.bias_act(STRANGERS[kind](), W, 1) is NotImplemented
    if kind not in ("None", "of gaps"):
        assert raw.bias_act(X, STRANGERS[kind](), 1) is NotImplemented


def test_a_negated_view_is_read_as_what_it_is():
    z = torch.randn(4, 1, dtype=torch.complex64)
    for x in (torch._neg_view(X), z.conj().imag, z[:1].conj().imag):
        assert torch.equal(ops.bias_act(x), ops.bias_act(x.clone()))


def test_states_in_which_calls_are_watched():
    with BaseTorchFunctionMode():
        assert raw.bias_act(X, W, 1) is NotImplemented
    with Seen():
        assert raw.bias_act(X, W, 1) is NotImplemented
    with torch.autograd.forward_ad.dual_level():
        assert raw.bias_act(X, W, 1) is NotImplemented
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        assert raw.bias_act(X, W, 1) is NotImplemented
    found = []
    torch.vmap(lambda x: found.append(raw.bias_act(X, W, 1)) or x)(X)
    assert found[0] is NotImplemented
    assert raw.bias_act(X, W, 1) is not NotImplemented


@pytest.mark.filterwarnings("ignore")
def test_a_trace_keeps_the_op():
    traced = torch.jit.trace(lambda x: ops.bias_act(x, W), (X,))
    assert "genfast::bias_act" in str(traced.graph)
    assert torch.equal(traced(X + 1), ops.bias_act(X + 1, W))


def test_no_gradient_is_lost():
    """Of any argument, where gradients are recorded; and none is asked for where they are not."""
    for at in range(2):
        args = [X.clone(), W.clone()]
        args[at].requires_grad_()
        assert raw.bias_act(*args, 1) is raw.GRADIENT
        with torch.no_grad():
            assert isinstance(raw.bias_act(*args, 1), torch.Tensor)
    x0, key, scale = torch.ones(2, 8), ops.make_key(0, 2), torch.ones(2, requires_grad=True)
    assert ops.diffuse(x0, key, scale, scale).requires_grad
    assert ops.denoising_loss(x0, x0, key, scale, scale).requires_grad


def test_arguments_of_other_types():
    for wrong in (1.0, True, None, "1", torch.tensor(1), 2**70):
        assert raw.bias_act(X, W, wrong) is NotImplemented
    assert raw.glu(X, 1) is NotImplemented
    assert raw.noise(ops.make_key(0, 2), [2, 1.0], 0, False, torch.float32) is NotImplemented
    assert raw.noise(ops.make_key(0, 2), [2], 0, False, torch.int8) is NotImplemented
    assert raw.noise(ops.make_key(0, 2), [2**62, 2**62], 0, False, torch.float32) is NotImplemented
    for args in ((), (X,), (X, W, 1, 1)):
        with pytest.raises(TypeError, match=f"a raw op of 3 arguments was given {len(args)}"):
            raw.bias_act(*args)


# ---- what is written to ----


@pytest.mark.parametrize("name", ["step_everything", "langevin_guided"])
def test_autograd_hears_of_what_is_written(name, no_registered):
    args = to(made(name), torch.clone)
    before = {key: t._version for key, t in args.items() if isinstance(t, torch.Tensor)}
    CASES[name].op(**args)
    moved = {key for key, version in before.items() if args[key]._version > version}
    assert moved == {"x", "y", "history"} & args.keys()

    args = to(made(name), torch.clone)
    leaf = torch.ones_like(args["x"], requires_grad=True)
    product = (leaf * args["x"]).sum()
    CASES[name].op(**args)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_threads_call_at_once():
    key, expected = ops.make_key(0, 64), None
    expected = ops.normal(key, (4096,))
    found = [None] * 4

    def draw(i):
        torch.set_num_threads(1)
        found[i] = all(torch.equal(ops.normal(key, (4096,)), expected) for _ in range(20))

    threads = [threading.Thread(target=draw, args=(i,)) for i in range(len(found))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found)
