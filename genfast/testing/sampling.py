"""The cases of the ops that a training or sampling loop is made of."""

from collections.abc import Callable

import torch
from torch import Tensor

from .. import ops
from ..ops.step import COLUMNS, StepRows
from .case import Case, base


def _noise(uniform: bool) -> Case:
    def inputs(shape, dtype, generator):
        key, purpose = base(shape, generator)[1], ops.Purpose.TRAIN
        return {"key": key, "shape": shape[1:], "purpose": purpose, "step": 123456, "dtype": dtype}

    def eager(key, shape, purpose, step, dtype):
        return (ops.noise_reference(key, shape, purpose, step, uniform),)

    function = ops.uniform if uniform else ops.normal
    return Case(function.__name__, inputs, lambda **a: (function(**a),), eager, lambda n, item: n * item)


def _diffuse(with_target: bool) -> Case:
    def inputs(shape, dtype, generator):
        batch, key, randn = base(shape, generator)
        args = {
            "x0": randn(*shape),
            "key": key,
            "alpha": randn(batch),
            "sigma": randn(batch).abs(),
            "c_in": randn(batch),
        }
        if with_target:
            args["target"] = (randn(batch), randn(batch))
        return args | {"dtype": dtype}

    def op(**args):
        out = ops.diffuse(**args)
        return out if with_target else (out,)

    def eager(x0, key, dtype, z=None, **rest):
        y, target = ops.diffuse_reference(x0, noise_for(x0, key) if z is None else z, **rest)
        y = y.to(x0.dtype if x0.dtype == torch.float64 else dtype)
        return (y, target) if with_target else (y,)

    def bytes_moved(n, item):
        return n * (4 + item + 4 * with_target)

    return Case("diffuse" + "_target" * with_target, inputs, op, eager, bytes_moved, differentiable=("x0",))


def noise_for(x: Tensor, key: Tensor, purpose: int = ops.Purpose.TRAIN, step: int = 0) -> Tensor:
    z = ops.normal(key, x.shape[1:], purpose, step).to(x.dtype)
    return z.contiguous(memory_format=torch.channels_last) if x.ndim == 4 and not x.is_contiguous() else z


def _denoising_loss() -> Case:
    def inputs(shape, dtype, generator):
        batch, key, randn = base(shape, generator)
        return {
            "net": randn(*shape).to(dtype), "x0": randn(*shape), "key": key,
            "p": randn(batch), "q": randn(batch), "weight": randn(batch).abs(),
        }  # fmt: skip

    def eager(net, x0, key, z=None, **rest):
        return (ops.denoising_loss_reference(net, x0, noise_for(x0, key) if z is None else z, **rest),)

    return Case(
        "denoising_loss", inputs, lambda **a: (ops.denoising_loss(**a),), eager, lambda n, item: n * (4 + item),
        differentiable=("net", "x0"),
    )  # fmt: skip


def _dot() -> Case:
    def inputs(shape, dtype, generator):
        randn = base(shape, generator)[2]
        return {"a": randn(*shape).to(dtype), "b": randn(*shape).to(dtype)}

    return Case(
        "dot", inputs, lambda **a: (ops.dot(**a),), lambda **a: (ops.dot_reference(**a),), lambda n, item: 2 * n * item,
        differentiable=("a", "b"),
    )  # fmt: skip


def _langevin(guided: bool) -> Case:
    def inputs(shape, dtype, generator):
        batch, key, randn = base(shape, generator)
        args = {
            "x": randn(*shape),
            "net": randn(*shape).to(dtype),
            "key": key,
            "y": torch.zeros(shape, dtype=dtype, device="cpu"),
        }
        args |= {name: randn(batch) for name in ("alpha", "c_skip", "c_out", "c_in")}
        args |= {"sigma": randn(batch).abs(), "snr": 0.1 + 0.1 * randn(batch).abs(), "step": 7}
        return args | ({"unconditional": randn(*shape).to(dtype), "guidance": randn(batch)} if guided else {})

    def op(**args):
        ops.langevin(**args)
        return args["x"], args["y"]

    def eager(x, net, key, y, c_in, step, **rest):
        following = ops.langevin_reference(x, net, noise_for(x, key, ops.Purpose.CORRECTOR, step), **rest)
        return following, (c_in.reshape(-1, *[1] * (x.ndim - 1)) * following).to(y.dtype)

    def bytes_moved(n, item):  # x and net twice, for the norms must be known before x moves
        return n * (3 * 4 + 2 * item * (1 + guided) + item)

    return Case("langevin" + "_guided" * guided, inputs, op, eager, bytes_moved)


def _dynamic_threshold(quantile: float, limit: float | None) -> Case:
    def inputs(shape, dtype, generator):
        return {"D": 2 * base(shape, generator)[2](*shape), "quantile": quantile, "bound": 1.0, "limit": limit}

    return Case(
        "dynamic_threshold" + "_limit" * (limit is not None), inputs, lambda **a: (ops.dynamic_threshold(**a),),
        lambda **a: (ops.dynamic_threshold_reference(**a),), lambda n, item: 8 * n, dtypes=(torch.float32,),
    )  # fmt: skip


def _runge_kutta(stages: int, with_error: bool) -> Case:
    def inputs(shape, dtype, generator):
        batch, _, randn = base(shape, generator)
        args = {"x": randn(*shape), "k": randn(stages, *shape), "c": randn(batch, stages), "rtol": 0.25, "atol": 0.5}
        args["c"][:, 1] = 0
        return args | ({"error": randn(batch, stages)} if with_error else {})

    def both(function):
        return lambda **args: function(**args)[: 1 + with_error]

    return Case(
        f"runge_kutta_{stages}" + "_error" * with_error, inputs, both(ops.runge_kutta), both(ops.runge_kutta_reference),
        lambda n, item: 4 * n * (2 + stages - (not with_error)), dtypes=(torch.float32,),
    )  # fmt: skip


def step_table(randn: Callable[..., Tensor], rows: int, draws: int, slots: int) -> ops.StepTable:
    """A random plan: every row draws `draws` times, reads and writes `slots` slots."""
    c = StepRows.of(0.4 * randn(rows, COLUMNS))
    c.e[:, slots:], c.m[:, :, slots:] = 0, 0
    weights = (0.4 * randn(draws * rows)).tolist()
    draw = [(ops.stream(ops.Purpose.STEP, step), weight) for step, weight in enumerate(weights)]
    terms = [draw[draws * row : draws * (row + 1)] for row in range(rows)]
    return ops.StepTable.pack(**c._asdict(), writes=torch.arange(ops.SLOTS, device="cpu") < slots, terms=terms)


def _step(kind: str, draws: int = 0, slots: int = 0, guided: bool = False, clamp: bool = False) -> Case:
    def inputs(shape, dtype, generator):
        batch, key, randn = base(shape, generator)
        args = {
            "x": randn(*shape), "net": randn(*shape).to(dtype), "key": key,
            "y": torch.zeros(shape, dtype=dtype, device="cpu"),
            "row": torch.randint(0, 5, (batch,), generator=generator, dtype=torch.int32, device="cpu"),
            "table": step_table(randn, 5, draws, slots),
        }  # fmt: skip
        if slots:
            args["history"] = randn(slots, *shape)
        if guided:
            args |= {"unconditional": randn(*shape).to(dtype), "guidance": randn(batch)}
        return args | ({"clamp": (-0.7, 0.6)} if clamp else {})

    def outputs(function):
        def run(**args):
            function(**args)
            return tuple(args[name] for name in ("x", "y", "history") if name in args)

        return run

    def bytes_moved(n, item):
        return n * (4 + 4 + item + item + item * guided + 8 * slots)

    return Case(f"step_{kind}", inputs, outputs(ops.step), outputs(ops.step_reference), bytes_moved)


CASES = (
    _noise(uniform=False),
    _noise(uniform=True),
    _diffuse(with_target=False),
    _diffuse(with_target=True),
    _denoising_loss(),
    _dot(),
    _langevin(guided=False),
    _langevin(guided=True),
    _dynamic_threshold(0.9, limit=None),
    _dynamic_threshold(0.995, limit=2.5),
    _runge_kutta(4, with_error=False),
    _runge_kutta(7, with_error=True),
    _step("ode"),
    _step("sde", draws=1, clamp=True),
    _step("history", slots=1),
    _step("brownian", draws=5, slots=1),
    _step("everything", draws=2, slots=4, guided=True, clamp=True),
)
