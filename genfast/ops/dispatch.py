"""When an op takes its fused kernel and when plain torch, and the checks that C++ cannot make."""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .._extension import extension
from ..common.checks import require_number
from ..common.precision import readable

GRADIENT = extension.raw.GRADIENT  # what a raw op answers with where a gradient is wanted
is_dynamo_compiling = torch.compiler.is_dynamo_compiling


def composed(*tensors: Tensor | None) -> bool:
    """Whether an op must be composed of torch's own ops: in float64, under torch.func, and under forward-mode AD.

    A custom op gives silently zero tangents under `torch.func.jvp`, and fails under `torch.func.grad`.  Under
    torch.compile the level is None and the fused op is traced; a transform inside a compiled function is refused by
    torch, loudly.
    """
    return (
        torch._C._functorch.maybe_current_level() is not None
        or torch.autograd.forward_ad._current_level >= 0
        or any(t is not None and t.dtype == torch.float64 for t in tensors)
    )


def wants_grad(*arguments: object) -> bool:
    """Whether a gradient is wanted of any tensor among the arguments."""
    return torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in arguments)


def per_row(coefficient: Tensor, like: Tensor) -> Tensor:
    """(B,) to (B, 1, ..., 1), to go with like: (B, *)."""
    return coefficient.reshape(-1, *[1] * (like.ndim - 1))


def require_tensors(op: str, **tensors: object) -> None:
    """Raises TypeError, naming it, for what is no dense tensor."""
    for name, value in tensors.items():
        if not _is_dense(value):
            raise _no_tensor(op, name, value, "a tensor")


def require_optional(op: str, **tensors: object) -> None:
    """Raises TypeError, naming it, for what is neither a dense tensor nor None."""
    for name, value in tensors.items():
        if value is not None and not _is_dense(value):
            raise _no_tensor(op, name, value, "a tensor or None")


def _is_dense(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided


def _no_tensor(op: str, name: str, value: object, wanted: str) -> TypeError:
    if isinstance(value, Tensor):
        return TypeError(f"{op}: {name} must be a dense tensor; got a {value.layout} one")
    return TypeError(f"{op}: {name} must be {wanted}; got {type(value).__name__}")


def as_eps(eps: object) -> float:
    """eps as a float, whose range the kernels check. Raises ValueError for what is no number."""
    return eps if isinstance(eps, float) else require_number("eps", eps)


def require_guided(op: str, unconditional: object, guidance: object) -> None:
    """Raises TypeError or ValueError, naming them, unless both are tensors or both None."""
    require_optional(op, unconditional=unconditional, guidance=guidance)
    if (unconditional is None) != (guidance is None):
        raise ValueError(f"{op}: unconditional and guidance go together")


def same_batch(op: str, x: Tensor, **coefficients: Tensor | None) -> None:
    """Raises TypeError for a coefficient that is no tensor, ValueError unless each has shape (B,)."""
    require_optional(op, **coefficients)
    for name, value in coefficients.items():
        if value is not None and (value.shape != x.shape[:1] or not x.ndim):
            rows = len(x) if x.ndim else "B"
            raise ValueError(f"{op}: {name} must have shape ({rows},), one number a sample; got {tuple(value.shape)}")


def one_device(op: str, **tensors: Tensor | None) -> None:
    """RuntimeError unless all tensors lie on the device of the first: what C++ checks, for the ways around it."""
    (name, first), *others = ((n, t) for n, t in tensors.items() if isinstance(t, Tensor))
    for other, tensor in others:
        if tensor.device != first.device:
            raise RuntimeError(f"{op}: {other} must be on the device of {name}, {first.device}; got {tensor.device}")


def alike(op: str, **tensors: Tensor | None) -> None:
    """RuntimeError unless all tensors have the shape and the device of the first, for the ways around C++."""
    one_device(op, **tensors)
    (name, first), *others = tensors.items()
    for other, tensor in others:
        if tensor is not None and tensor.shape != first.shape:
            wanted = f"have the shape of {name}, {tuple(first.shape)}"
            raise RuntimeError(f"{op}: {other} must {wanted}; got {tuple(tensor.shape)}")


def shaped(op: str, **pairs: tuple[Tensor | None, tuple[int, ...]]) -> None:
    """RuntimeError unless each tensor has the shape beside it, for the ways around C++."""
    for name, (tensor, shape) in pairs.items():
        if tensor is not None and tensor.shape != shape:
            raise RuntimeError(f"{op}: {name} must have shape {shape}; got {tuple(tensor.shape)}")


def finite_rows(op: str, x: Tensor, **coefficients: Tensor | None) -> None:
    """RuntimeError unless the coefficients, (B,) each, lie on the device of x and, where the host can see them, are
    finite: for the ways around C++."""
    one_device(op, x=x, **coefficients)
    for name, value in coefficients.items():
        if value is not None and readable(value) and not bool(value.isfinite().all()):
            raise RuntimeError(f"{op}: {name} must hold finite numbers; got {value.tolist()}")


def overlap(a: Tensor, b: Tensor) -> bool:
    """Whether two dense tensors share memory."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    if a.is_meta or wrapped(a) or wrapped(b):
        return False
    return a.data_ptr() < b.data_ptr() + b.nbytes and b.data_ptr() < a.data_ptr() + a.nbytes


def apart(op: str, written: dict[str, Tensor | None], read: dict[str, Tensor | None]) -> None:
    """RuntimeError where a tensor that is written to shares memory with another, for the ways around C++."""
    both_written = itertools.combinations(written.items(), 2)
    for (name, a), (other, b) in (*both_written, *itertools.product(written.items(), read.items())):
        if a is not None and b is not None and overlap(a, b):
            raise RuntimeError(f"{op}: {name}, which is written to, must not share memory with {other}")


def register_fake(name: str) -> Callable[[Callable], Callable]:
    """Registers a function as what `genfast::name` answers with on the meta device and under torch.compile, where all
    its tensors must lie on one device, as C++ wants them."""
    names = [argument.name for argument in getattr(torch.ops.genfast, name).default._schema.arguments]

    def register(function: Callable) -> Callable:
        def fake(*args, **kwargs):
            one_device(name, **dict(zip(names, args)), **kwargs)
            return function(*args, **kwargs)

        return torch.library.register_fake(f"genfast::{name}")(fake)

    return register


def map_by_a_loop(name: str) -> None:
    """Gives `genfast::name` a batch rule for torch.vmap: one call after the other, which is how it would be called."""
    op = getattr(torch.ops.genfast, name)

    def rule(info, in_dims, *args):
        calls = [
            op(*(arg if dim is None else arg.select(dim, i).contiguous() for arg, dim in zip(args, in_dims)))
            for i in range(info.batch_size)
        ]
        outputs = tuple(map(torch.stack, zip(*calls)))
        return outputs, (0,) * len(outputs)

    torch.library.register_vmap(f"genfast::{name}", rule)


def in_layout_of(x: Tensor, like: Tensor) -> Tensor:
    """x in the memory format of `like`, copied only if it has another; a `like` with gaps counts as contiguous."""
    require_tensors("in_layout_of", x=x, like=like)
    return x if x.stride() == like.stride() else torch.empty_like(like, dtype=x.dtype).copy_(x)


def dense(x: Tensor) -> Tensor:
    """x itself if it is contiguous or channels-last, which the kernels take; otherwise a contiguous copy."""
    require_tensors("dense", x=x)
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    return x if last is not None and x.is_contiguous(memory_format=last) else x.contiguous()


def in_fast_layout(x: Tensor) -> Tensor:
    """Images (B, C, H, W) in the layout in which networks with our norms are faster: channels-last on a CPU, whatever
    that of x; anything else as it is."""
    if x.ndim == 4 and x.device.type == "cpu" and not composed(x):
        return x.contiguous(memory_format=torch.channels_last)
    return x


def beside(x: Tensor | None, like: Tensor) -> Tensor | None:
    """x in the memory format of `like`; one of another shape as it is, which the kernel refuses."""
    return in_layout_of(x, like) if isinstance(x, Tensor) and x.shape == like.shape else x


def packed(*tensors: Tensor | None) -> list[Tensor | None]:
    """The tensors themselves, or contiguous copies of those with gaps."""
    return [t.contiguous() if isinstance(t, Tensor) else t for t in tensors]


HALVES = (torch.bfloat16, torch.float16)  # of tensors whose small companions may be as narrow


def widened(*small: Tensor | None) -> list[Tensor | None]:
    """The small tensors that go with a large one, in float32 where they are of half that width."""
    return [t.float() if isinstance(t, Tensor) and t.dtype in HALVES else t for t in small]


def widened_others(x: Tensor, *small: Tensor | None) -> list[Tensor | None]:
    """Each in float32, or as it is where it is in the dtype of x, which kernels read too."""
    return [t if t is None or t.dtype == x.dtype else t.float() for t in small]


def widened_beside(x: Tensor, *small: Tensor | None) -> list[Tensor | None]:
    """As `widened`, but the tensors themselves where all are in the dtype of x: for a kernel that wants one type."""
    return list(small) if all(t is None or t.dtype == x.dtype for t in small) else widened(*small)


def with_rows(*tensors: Tensor | None) -> list[Tensor | None]:
    """The tensors themselves, or contiguous copies of those whose rows, along the last dimension, have gaps."""
    return [t.contiguous() if isinstance(t, Tensor) and t.ndim and t.stride(-1) != 1 else t for t in tensors]


def without_autograd(name: str) -> tuple[Callable, Callable]:
    """(quick, call) of the op `genfast::name`, for callers who want no gradient.

    `quick` is one call into C++, past torch's dispatcher. It takes anything, and answers as the op does, with None for
    what there is nothing of; or with NotImplemented, having done nothing: for arguments that are not exactly what the
    op takes, where a gradient is wanted, and under compilation, modes, transforms and profiling. Whoever called then
    checks and prepares the arguments, for `call`, which takes what the op takes.
    """
    raw = getattr(extension.raw, name)

    def quick(*args):
        if is_dynamo_compiling():
            return NotImplemented
        found = raw(*args)
        return NotImplemented if found is GRADIENT else found

    def call(*args):
        found = quick(*args)
        return getattr(torch.ops.genfast, name)(*args) if found is NotImplemented else found

    return quick, call


def with_autograd(
    name: str, setup: Callable, backward: Callable, *, keeps: bool = False, outputs: int | None = None
) -> tuple[Callable, Callable]:
    """(quick, call) of the op `genfast::name`, as of `without_autograd`, with its gradient.

    keeps: the last argument of the op says whether to keep what the backward needs; `quick` takes it, as False, `call`
    does without it.
    outputs: how many of the op's answers are the caller's; the others, without gradient, are kept for the backward.

    Registered with torch.library, which torch.compile and opcheck see; an eager call goes through an autograd.Function
    of the same two functions, and through raw ops, at a fraction of the cost.
    """
    torch.library.register_autograd(f"genfast::{name}", backward, setup_context=setup)
    raw, below_autograd = getattr(extension.raw, name), torch._C._AutoDispatchBelowAutograd

    def registered(*args):
        return getattr(torch.ops.genfast, name)(*args)

    def forward(ctx, *args):  # a setup_context of its own would have its signature looked up at every call
        args = (*args, True) if keeps else args
        found = raw(*args)
        if found is NotImplemented:
            with below_autograd():
                found = registered(*args)
        setup(ctx, args, found)
        return found[:outputs] if outputs else found

    function = type(
        name, (torch.autograd.Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    )

    # Past a look for the dead wrappers of transforms, of which a raw op says that there are none.
    apply = super(torch.autograd.Function, function).apply

    def quick(*args):
        if is_dynamo_compiling():
            return NotImplemented
        found = raw(*args)
        if found is not GRADIENT:
            return found
        try:
            return apply(*(args[:-1] if keeps else args))
        except RuntimeError:  # whoever asks again, with arguments prepared, hears of it
            return NotImplemented

    def call(*args):
        if torch.compiler.is_compiling():
            return registered(*args, wants_grad(*args)) if keeps else registered(*args)
        found = raw(*args, False) if keeps else raw(*args)
        if found is not NotImplemented and found is not GRADIENT:
            return found
        if found is GRADIENT or wants_grad(*args):
            return function.apply(*args)
        with below_autograd():  # what torch.library put there for torch.compile is written in Python
            return registered(*args, False) if keeps else registered(*args)

    return quick, call


def mask(needs: Sequence[bool]) -> int:
    """A bit for each of weight, bias, scale and shift: how the backward of a norm is told what is wanted."""
    weight, bias, scale, shift = needs
    return weight | bias << 1 | scale << 2 | shift << 3


def wanted(grads: Sequence[Tensor | None], needs: Sequence[bool]) -> list[Tensor | None]:
    """The gradients that are wanted, None for the others."""
    return [grad if need else None for grad, need in zip(grads, needs, strict=True)]


def empty_affine(x: Tensor, features: int, needs: int) -> list[Tensor]:
    """On the meta device, what the backward of a norm answers for weight, bias, scale and shift."""
    sizes = ((features,), (features,), (len(x), features), (len(x), features))
    return [x.new_empty(size if needs >> bit & 1 else 0, dtype=torch.float32) for bit, size in enumerate(sizes)]


def leaf(t: Tensor | None) -> Tensor | None:
    """t as a tensor of its own to differentiate in, for the backward of a backward: a view where t has a graph that a
    third derivative goes on through, so that the other ways to t are not counted; else it is cut off."""
    return t if t is None else t.view_as(t) if t.requires_grad else t.detach().requires_grad_()


def differentiate_again(
    function: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Sequence[Tensor | None],
    grads: Sequence[Tensor | None],
    cotangents: Sequence[Tensor | None],
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """The backward of a backward, by plain torch: derivatives of sum_i <cotangents_i, grad_i> in the inputs of
    `function` and in `grads`, where grad_i is the gradient of input i given `grads`, those of the outputs.

    A None among the inputs stays one; a None among the cotangents counts as zero. Differentiable where torch asks for
    that.
    """
    further = torch.is_grad_enabled()
    with torch.enable_grad():
        leaves, above = [leaf(t) for t in inputs], [leaf(g) for g in grads]
        outputs = function(*leaves)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        pairs = [(o, g) for o, g in zip(outputs, above, strict=True) if g is not None]
        wanted = [(t, c) for t, c in zip(leaves, cotangents, strict=True) if t is not None and c is not None]
        first = torch.autograd.grad(
            [o for o, _ in pairs], [t for t, _ in wanted], [g for _, g in pairs], create_graph=True,
            allow_unused=True,
        )  # fmt: skip
        total = sum((c * g).sum() for (_, c), g in zip(wanted, first, strict=True) if g is not None)
        ends = [t for t in (*leaves, *above) if t is not None]
        second = iter(torch.autograd.grad(total, ends, create_graph=further, allow_unused=True))
    found = [None if t is None else next(second) for t in (*leaves, *above)]
    return found[: len(leaves)], found[len(leaves) :]
