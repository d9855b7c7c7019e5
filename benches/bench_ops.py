"""Every Case in genfast.testing.CASES, its gradient where it has one, and the steps that other libraries have too."""

import functools
import inspect
from collections.abc import Callable, Iterator

import peers
import torch
from timing import Bench

from genfast import ops, testing
from genfast.diffusion import solvers
from genfast.diffusion.process import denoisers, schedules
from genfast.diffusion.sampling.step_table import step_table
from genfast.ops.step import StepCodes
from genfast.testing import Case

SHAPE, GPU_SHAPE, QUICK_SHAPE = (64, 3, 64, 64), (64, 3, 512, 512), (4, 3, 8, 8)
DRAWN = 1 << 22  # elements at most that inputs are drawn for; larger ones repeat their rows
DTYPES = (torch.float32, torch.bfloat16)


def names() -> list[str]:
    cases = [(name, f"{name}_backward") if case.differentiable else (name,) for name, case in testing.CASES.items()]
    return ["copy", *sum(cases, ()), *_STEPS]


def benches(wanted: list[str], device: torch.device, quick: bool, compiled: bool) -> Iterator[Callable[[], Bench]]:
    """The benches of the cases in `wanted`, each to be made when its turn comes."""
    gpu = device.type == "cuda"
    shape = QUICK_SHAPE if quick else GPU_SHAPE if gpu else SHAPE
    for name in wanted:
        if name == "copy":
            yield lambda: peers.copy("copy", shape, device)
            yield lambda: peers.large_copy(device, quick)
            continue
        for dtype in DTYPES:
            if name in _STEPS:
                yield lambda name=name, dtype=dtype: _step(name, shape, dtype, device, compiled)
                continue
            case = testing.CASES[name.removesuffix("_backward")]
            if dtype in case.dtypes:
                gradient = name.endswith("_backward")
                shapes = None if quick else (case.gpu_shapes if gpu else None) or case.shapes
                for size in shapes or (shape,):
                    first = compiled and (not shapes or size == shapes[0])  # compiling takes seconds
                    for nhwc in (False, True) if case.layouts == "rounding" and len(size) == 4 else (False,):
                        yield functools.partial(_case, case, size, dtype, device, first, gradient, nhwc)


def _case(case: Case, shape, dtype, device, compiled: bool, gradient: bool, nhwc: bool) -> Bench:
    """genfast, then eager drawing its noise, eager with noise stored beforehand, and eager compiled."""

    def convert(t):
        return t.contiguous(memory_format=torch.channels_last) if nhwc and t.ndim == 4 else t

    args = testing.to(_inputs(case, shape, dtype, device), convert)
    rest, eager = {}, peers.eager(case)
    if "table" in args:  # known on the host, beforehand: what eager code would not even write down
        codes = StepCodes.of(args["table"].codes)
        rest = {"draws": int((codes.last - codes.first).max()), "slots": int(codes.reads.max()).bit_length()}

    def draw(**a):
        return eager(**a, **rest, **({"z": torch.randn_like(a["x0"])} if stored else {}))

    stored = "x0" in args and "z" in inspect.signature(eager).parameters
    functions = {"genfast": case.op, "eager": draw}
    if stored:
        args["z"] = torch.randn_like(args["x0"])
        functions["eager_stored_z"] = lambda z, **a: eager(**a, z=z)
    if compiled:
        functions["compile"] = peers.compiled(draw)
    if stored:
        for name in functions.keys() - {"eager_stored_z"}:
            functions[name] = _without_z(functions[name])

    size = torch.Size(shape).numel()
    moved = case.bytes_moved(size, dtype.itemsize)
    if gradient:
        # Of data, x0, no training wants a gradient; and where there is one, x0 need not be read for it.
        of = [name for name in case.differentiable if name != "x0"]
        moved += sum(output.nbytes for output in functions["genfast"](**args))  # their gradients are read
        moved += sum(2 * args[name].nbytes for name in of)  # read again, and their gradients written
        if not of:
            of, moved = ["x0"], moved + args["x0"].nbytes
        for name in of:
            args[name].requires_grad_()
        functions = {name: _with_gradient(function, of) for name, function in functions.items()}
    return Bench(case.name + "_nhwc" * nhwc + "_backward" * gradient, shape, dtype, moved, args, functions)


def _inputs(case: Case, shape, dtype, device) -> dict:
    """On the device; of a large batch the rows of a small one, again and again, for drawing is slow."""
    batch, features = shape[0], max(1, torch.Size(shape[1:]).numel())
    few = max(1, min(batch, DRAWN // features))
    args = case.inputs((few, *shape[1:]), dtype, torch.Generator().manual_seed(0))
    args = testing.to(args, lambda t: t.to(device))
    return args if few == batch else case.rows(args, torch.arange(batch, device=device) % few)


def _without_z(function):
    return lambda z, **args: function(**args)


def _with_gradient(function, of: list[str]):
    def run(**args):
        outputs = function(**args)
        return torch.autograd.grad(outputs, [args[name] for name in of], [torch.ones_like(o) for o in outputs])

    return run


# A real row of a real plan, all samples at it, as other libraries step: (solver, schedule, time steps, clamp, peers).
# With _y the next network input is written too, which a sampler needs unless it is x itself (c_in = 1 and float32).
_DDPM = ("ddpm", schedules.VPLinear, 1000, (-1.0, 1.0))
_EULER = ("euler", schedules.EDM, 20, None)
_STEPS = {"step_ddpm": _DDPM, "step_ddpm_y": _DDPM, "step_euler": _EULER, "step_euler_y": _EULER}
_PEERS = {
    "ddpm": {"eager": peers.eager_ddpm, "diffusers": peers.diffusers_ddpm},
    "euler": {
        "eager": peers.eager_euler,
        "eager_simplified": peers.simplified_euler,
        "diffusers": peers.diffusers_euler,
    },
}


def _step(name: str, shape, dtype, device, compiled: bool) -> Bench:
    solver, schedule, steps, clamp = _STEPS[name]
    plan = solvers.plan(solver, schedule(), steps)
    denoiser = denoisers.Denoiser(lambda y, t: y, schedule(), denoisers.Eps())
    row, batch = len(plan) // 2, shape[0]
    generator = torch.Generator().manual_seed(0)
    x = float(plan.alpha[row]) * torch.rand(shape, generator=generator) + float(plan.sigma[row])
    args = {
        "x": x, "net": torch.randn(shape, generator=generator).to(dtype), "key": ops.make_key(0, batch), "clamp": clamp,
        "row": torch.full((batch,), row, dtype=torch.int32), "table": step_table(plan, denoiser),
    }  # fmt: skip
    moved = x.numel() * (8 + dtype.itemsize)
    if name.endswith("_y"):
        args["y"] = torch.empty(shape, dtype=dtype)
        moved += x.numel() * dtype.itemsize
    providers = {"genfast": ops.step}
    for peer, make in _PEERS[solver].items():
        # diffusers' state takes the dtype of the network: in bfloat16 that would be other, lesser work.
        if peer != "diffusers" or (peers.diffusers and dtype == torch.float32):
            providers[peer] = make(plan, row)
    if compiled:
        providers["compile"] = peers.compiled(providers["eager"])
    return Bench(name, shape, dtype, moved, testing.to(args, lambda t: t.to(device)), providers)
