"""Memory safety does not rest on Python: raw ops answer or refuse whatever they are given, in words that name it."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import fuzz
import pytest
import torch

import genfast
from genfast import ops
from genfast.testing import CASES, to

RAW = fuzz.valid_calls()
raw_op = pytest.mark.parametrize("op", RAW, ids=str)


def run(calls: int, memory: int, **build: str) -> dict:
    """The counts of a process whose new memory is full of this byte."""
    command, environment = [sys.executable, fuzz.__file__, str(calls), "0"], os.environ | build
    environment["MALLOC_PERTURB_"] = str(memory)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.returncode} in {done.stderr[-4000:]}"
    return json.loads(done.stdout)


BUILDS = {"": {}, "emulate": {"GENFAST_EMULATE": "1"}, "sanitize": fuzz.sanitized()}


@pytest.mark.slow
@pytest.mark.parametrize("build", BUILDS)
def test_any_arguments_are_answered_or_refused(build):
    """No crash; what is answered was written, whatever memory held before; a refusal names the op and an argument."""
    if build and not list(Path(genfast.__file__).parent.glob(f"_C_{build}.*.so")):
        pytest.skip(f"needs the build of _C_{build}, which `make test` makes")
    calls, build = 100 if build == "emulate" else 800, BUILDS[build]
    first, second = run(calls, 85, **build), run(calls, 170, **build)
    assert first == second
    assert len(first) == len(RAW) >= 22
    for op, counts in first.items():
        assert counts["calls"] == calls and min(counts["refused"], counts["answered"], counts["raw"]) > calls / 10, op
        stem = op.split(".")[1]
        names = {argument.name for argument in getattr(torch.ops.genfast, stem).default._schema.arguments}
        for words in counts["words"]:
            ours = re.match(rf"{stem}: |group_norm_act: |bias_act: ", words) and Counter(re.findall(r"\w+", words))
            theirs = words.startswith(("Trying to create tensor with negative dim", "Storage size calculation over"))
            assert ours or theirs, (op, words)
            named = names | {"shape", "residual", "dim", "plan", "memory", "need_v"}
            assert theirs or named & ours.keys(), (op, words)


@raw_op
def test_two_devices(op):
    """One tensor of each call on another device: refused, where the kernel runs and where only shapes do."""
    for args in RAW[op]:
        places = [i for i, value in enumerate(args) if isinstance(value, torch.Tensor)]
        for at in places if len(places) > 1 else ():
            mixed = [value.to("meta") if i == at else value for i, value in enumerate(args)]
            with pytest.raises(RuntimeError, match="must be on the device of"):
                op(*mixed)
            with pytest.raises(RuntimeError, match="must be on the device of"):
                op(*(args[at] if i == at else value for i, value in enumerate(on_meta(args))))


def on_meta(args: list) -> list:
    return [value.to("meta") if isinstance(value, torch.Tensor) else value for value in args]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_two_devices_of_public_ops(name, dtype):
    """The same of what users call, composed of torch's ops in float64."""
    case = CASES[name]
    args = case.inputs((3, 4, 2, 4), torch.float32, torch.Generator().manual_seed(0))
    args = to(args, lambda t: t.to(dtype) if t.dtype == torch.float32 else t)
    tensors = [name for name, value in args.items() if isinstance(value, torch.Tensor)]
    if name == "time_embedding":
        pytest.skip("its frequencies follow t")
    for moved in tensors if len(tensors) > 1 else ():
        mixed = to(args, torch.clone) | {moved: args[moved].to("meta")}
        with pytest.raises((RuntimeError, NotImplementedError, ValueError)):
            case.op(**mixed)


def test_words_of_an_error_tell_no_file_of_ours():
    with pytest.raises(RuntimeError) as caught:
        ops.dot(torch.ones(2, 3), torch.ones(2, 4))
    assert str(caught.value) == "dot: b must have the shape of a, (2, 3); got (2, 4)"


THRESHOLD = torch.ops.genfast.dynamic_threshold
NUMBERS = {
    "quantile of nan": lambda x: THRESHOLD(x, float("nan"), 1.0, torch.inf),
    "quantile below 0": lambda x: THRESHOLD(x, -1.0, 1.0, torch.inf),
    "quantile beyond all": lambda x: THRESHOLD(x, 1e18, 1.0, torch.inf),
    "bound too large": lambda x: ops.dynamic_threshold(x, 0.5, bound=1e300),
    "bound too small": lambda x: ops.dynamic_threshold(x, 0.5, bound=1e-60),
    "limit of nan": lambda x: THRESHOLD(x, 0.5, 1.0, torch.nan),
    "atol too small": lambda x: ops.runge_kutta(x, x[None], torch.ones(2, 1), torch.ones(2, 1), atol=1e-60),
    "rtol too large": lambda x: ops.runge_kutta(x, x[None], torch.ones(2, 1), torch.ones(2, 1), rtol=1e300),
    "eps below 0": lambda x: ops.group_norm_act(x, 2, eps=-1.0),
    "eps of nan": lambda x: ops.group_norm_act(x, 2, eps=torch.nan),
    "eps too small": lambda x: ops.layer_norm_modulate(x, eps=1e-60),
    "eps too large": lambda x: ops.layer_norm_modulate(x, eps=1e300),
    "gamma of nan": lambda x: torch.ops.genfast.kernel_sums(x, x, False, torch.nan, 1.0, False),
    "gamma below 0": lambda x: torch.ops.genfast.kernel_sums(x, x, True, -1.0, 1.0, False),
    "k beyond all": lambda x: torch.ops.genfast.pairwise(x, x, None, None, 2**63 - 1, True),
}


@pytest.mark.parametrize("what", NUMBERS)
def test_numbers_as_the_kernel_rounds_them(what):
    with pytest.raises((RuntimeError, ValueError), match=rf"{what.split()[0]} must"):
        NUMBERS[what](torch.randn(2, 4))


@pytest.mark.parametrize("eps", [-1.0, torch.nan])
def test_float64_checks_the_same_eps(eps):
    for norm in (lambda x: ops.group_norm_act(x, 2, eps=eps), lambda x: ops.rms_norm_modulate(x, eps=eps)):
        with pytest.raises(ValueError, match="eps must be"):
            norm(torch.randn(2, 4, dtype=torch.float64))


@pytest.mark.parametrize("name", CASES)
def test_float64_checks_what_float32_checks(name):
    """Arguments that float32 refuses: others' shapes, keys, and coefficients that are not finite."""
    case = CASES[name]
    args = case.inputs((3, 4, 2, 4), torch.float32, torch.Generator().manual_seed(0))
    wide = to(args, lambda t: t.double() if t.dtype == torch.float32 else t)
    for at, value in args.items():
        if not isinstance(value, torch.Tensor):
            continue
        changes = [lambda t: t[:1], lambda t: t[None]]
        if value.is_floating_point() and value.ndim == 1 and at not in case.shared:
            changes.append(lambda t: torch.full_like(t, torch.nan))
        for change in changes:
            try:
                case.op(**to(args, torch.clone) | {at: change(value)})
            except (RuntimeError, ValueError):
                with pytest.raises((RuntimeError, ValueError, IndexError)):
                    case.op(**to(wide, torch.clone) | {at: change(wide[at])})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("written", "other"), [("y", "x"), ("x", "net"), ("y", "net"), ("y", "unconditional")])
def test_what_is_written_shares_no_memory(written, other, dtype):
    for case in ("step_everything", "langevin_guided"):
        args = CASES[case].inputs((3, 4), torch.float32, torch.Generator().manual_seed(0))
        args = to(args, lambda t: t.to(dtype) if t.dtype == torch.float32 else t.clone())
        args[written] = args[other]
        with pytest.raises(RuntimeError, match="which is written to, must not share memory with") as caught:
            CASES[case].op(**args)
        assert {written, other} <= set(re.findall(r"\w+", str(caught.value)))


def test_memory_that_is_not_there():
    key = ops.make_key(0, 1)
    with pytest.raises(RuntimeError, match=r"noise: out of memory for a tensor \(1, 10000000, 1000000\) of float32"):
        ops.normal(key, (10**7, 10**6))
    with pytest.raises(RuntimeError, match="noise: shape must not be negative, nor beyond any memory"):
        ops.normal(key, (2**62, 2**62))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("draw", [ops.normal, ops.uniform])
def test_noise_under_vmap(draw, dtype, capfd):
    """Keys are per row, so a mapped dimension is one more of rows."""
    key = ops.make_key(3, 12).view(4, 3, 2)
    apart = torch.stack([draw(k, (5,), dtype=dtype) for k in key])
    assert torch.equal(torch.vmap(lambda k: draw(k, (5,), dtype=dtype))(key), apart)
    assert torch.equal(torch.vmap(lambda k: draw(k, (5,), dtype=dtype), 1)(key.movedim(0, 1)), apart)
    assert torch.equal(torch.vmap(torch.vmap(lambda k: draw(k[None], (5,), dtype=dtype)[0]))(key), apart)
    assert "batching rule" not in capfd.readouterr().err
