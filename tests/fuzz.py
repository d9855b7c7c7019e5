"""Calls every raw op with arguments that are valid but for one to three of them, and counts what came of it.

    python tests/fuzz.py [CALLS] [SEED]     # calls of each op; prints one JSON object

Each call must answer or raise an ordinary error of Python. What is answered is hashed, so that two runs in other memory
(MALLOC_PERTURB_) show what was read and never written. A crash ends the process, as does a sanitizer's report.
"""

import hashlib
import itertools
import json
import math
import os
import random
import resource
import subprocess
import sys
from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from genfast._extension import extension
from genfast.testing import CASES, to

INTEGERS = (-(2**63), -(2**31), -1, 0, 1, 2, 3, 5, 64, 2**40, 2**62, 2**63 - 1)
FLOATS = (math.nan, math.inf, -math.inf, -1.0, -0.0, 0.0, 1e-300, 1e-60, 1e-40, 0.5, 1.0, 2.0, 1e18, 1e38, 1e300)
DTYPES = (
    torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool,
    torch.complex64,
)  # fmt: skip
SIZES = ([], [0], [1], [3, 0, 2], [7, 5], [2**40], [2**62, 2**62], [-1], [2, -3], [2**63 - 1])
GIBIBYTE = 2**30


class Recorded(TorchDispatchMode):
    """Keeps the arguments of every raw op that is called."""

    def __init__(self):
        super().__init__()
        self.calls = {}

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if op.namespace == "genfast":
            copies = to(dict(enumerate(args)), lambda t: t.detach().clone())
            self.calls.setdefault(op, []).append(list(copies.values()))
        return op(*args, **(kwargs or {}))


def sanitized() -> dict[str, str]:
    """The environment in which a Python runs the build with sanitizers, whose runtimes must be there first."""
    libraries = [
        subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
        for name in ("libasan.so", "libstdc++.so")
    ]
    options = "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=8192"
    return {"GENFAST_SANITIZE": "1", "LD_PRELOAD": " ".join(libraries), "ASAN_OPTIONS": options}


def calls_of(case, shapes: tuple, dtype: torch.dtype = torch.float32) -> dict:
    """Every raw op that a case calls with inputs of these shapes, first derivatives among them, with its arguments."""
    with Recorded() as recorded:
        for shape in shapes:
            args = case.inputs(shape, dtype, torch.Generator().manual_seed(0))
            for name in case.differentiable:
                args[name] = args[name].clone().requires_grad_()
            outputs = [out for out in case.op(**args) if out is not None and out.requires_grad]
            if outputs:
                torch.autograd.backward([out.float().sum() for out in outputs])
    return recorded.calls


def valid_calls() -> dict:
    """Every raw op with arguments that it takes."""
    known = {}
    for case in CASES.values():
        for op, calls in calls_of(case, ((3, 16), (2, 4, 3, 5))).items():
            known.setdefault(op, []).extend(calls)
    return known


def laid_out(t: torch.Tensor, draw: random.Random) -> torch.Tensor:
    """The tensor with another shape, other strides, or another device."""
    changes = [
        lambda: t[1:], lambda: t[:0], lambda: t[None], lambda: t.flatten(), lambda: t.repeat(2, *[1] * (t.ndim - 1)),
        lambda: t.new_empty(()).fill_(1), lambda: t.new_ones(1).expand(t.shape), lambda: t.transpose(0, -1),
        lambda: t.repeat_interleave(2, -1)[..., ::2], lambda: t[..., :1], lambda: t[..., :0], lambda: t.to("meta"),
        lambda: t.new_empty(0, 2**20, 2**20), lambda: torch.cat([t, t], -1), lambda: t.unsqueeze(-1),
        lambda: torch.cat([t.flatten(), t.flatten()[:1]])[1:].view(t.shape),
    ]  # fmt: skip
    return draw.choice(changes)()


def filled(t: torch.Tensor, draw: random.Random) -> torch.Tensor:
    """The tensor with numbers that nobody would give, in one place or all."""
    if t.dtype.is_floating_point:
        value = torch.tensor(draw.choice(FLOATS), dtype=torch.float64).to(t.dtype)
    else:
        bits = 8 * t.element_size() - 1
        value = draw.choice([n for n in INTEGERS if -(2**bits) <= n < 2**bits])
    t = t.contiguous().clone()
    if t.numel() and draw.random() < 0.7:
        t.reshape(-1)[draw.randrange(t.numel())] = value
    else:
        t.fill_(value)
    return t


def mutated(value: object, kind: str, draw: random.Random) -> object:
    """Another value where an op expects `kind`."""
    if kind.startswith("Tensor?") and draw.random() < 0.3:
        return None if value is not None else torch.ones(3, 4)
    if isinstance(value, torch.Tensor):
        change = draw.choice((laid_out, filled, lambda t, draw: t.to(draw.choice(DTYPES))))
        return change(value, draw)
    if kind == "int[]":
        return draw.choice(SIZES)
    if kind == "List[Tensor]":
        at = draw.randrange(len(value))
        changed = [*value[:at], mutated(value[at], "Tensor", draw), *value[at + 1 :]]
        return draw.choice((changed, changed, changed, value[1:], [*value, value[at].clone()]))
    if kind == "ScalarType":
        return draw.choice(DTYPES)
    if kind == "bool":
        return not value
    if kind.startswith("float"):
        return draw.choice(FLOATS)
    return draw.choice(INTEGERS) if kind == "int" else value


def hashed(outputs: object, digest) -> None:
    for out in outputs if isinstance(outputs, tuple | list) else (outputs,):
        if isinstance(out, torch.Tensor) and not out.is_meta:
            digest.update(str((out.dtype, tuple(out.shape))).encode())
            digest.update(
                out.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if out.numel() else b""
            )


def bits(outputs: object, args: list) -> list[str]:
    """Of what was answered, apart from nothing, which is None or an empty tensor, and of what was given."""
    found = []
    lists = [a if isinstance(a, list) else [a] for a in args]
    for out in (*(outputs if isinstance(outputs, tuple) else (outputs,)), *itertools.chain(*lists)):
        digest = hashlib.sha256()
        hashed(out, digest)
        if isinstance(out, torch.Tensor) and out.numel():
            found.append(digest.hexdigest())
    return found


def copied(t: torch.Tensor) -> torch.Tensor:
    """A tensor of the same strides in memory of its own, where it has any."""
    if t.is_meta or not t.numel():
        return t
    span = 1 + sum((n - 1) * stride for n, stride in zip(t.shape, t.stride(), strict=True))
    return t.as_strided((span,), (1,)).clone().as_strided(t.shape, t.stride())


def alien(args: list, draw: random.Random) -> list:
    """The arguments, one of them of a type that no op takes."""
    args, others = list(args), (None, "x", 2**70, 1.5, [], (), object(), torch.float32, torch.ones(2).tolist(), torch)
    args[draw.randrange(len(args))] = draw.choice(others)
    return args


def fuzz(calls: int, seed: int) -> dict:
    report = {}
    for op, known in sorted(valid_calls().items(), key=lambda item: str(item[0])):
        print(op, file=sys.stderr, flush=True)
        kinds = [(str(argument.type), str(argument.real_type)) for argument in op._schema.arguments]
        raw = getattr(extension.raw, op._schema.name.removeprefix("genfast::"))
        draw, digest = random.Random(f"{seed} {op}"), hashlib.sha256()
        counts, words = Counter(), set()
        for _ in range(calls):
            args = list(to(dict(enumerate(draw.choice(known))), torch.clone).values())
            for at in draw.sample(range(len(args)), min(len(args), draw.randint(1, 3))):
                optional, plain = kinds[at]
                kind = f"{plain}?" if optional.startswith("Optional") else plain
                args[at] = mutated(args[at], kind.replace("List[int]", "int[]"), draw)
            counts["calls"] += 1
            copies = list(to(dict(enumerate(args)), copied).values())
            raw_outputs = raw(*copies)
            raw_bits = bits(raw_outputs, copies)
            raw(*alien(copies, draw))
            try:
                outputs = op(*args)
            except (RuntimeError, TypeError, ValueError, OverflowError) as error:
                counts["refused"] += 1
                words.add(str(error).split(";")[0][:100])
                assert raw_outputs is NotImplemented, f"only the raw op answers: {error}"
                continue
            counts["answered"] += 1
            hashed(outputs, digest)
            hashed([t for t in args if isinstance(t, torch.Tensor | list)], digest)  # some are written to
            if raw_outputs is not NotImplemented:
                counts["raw"] += 1
                assert raw_bits == bits(outputs, args), "the raw op answers otherwise"
        report[str(op)] = dict(counts) | {"hash": digest.hexdigest()[:16], "words": sorted(words)}
    return report


if __name__ == "__main__":
    if os.environ.get("GENFAST_SANITIZE") != "1":  # whose shadow memory is larger than any machine's
        resource.setrlimit(resource.RLIMIT_AS, (12 * GIBIBYTE, 12 * GIBIBYTE))
    torch.set_num_threads(1)
    calls, seed = (int(argument) for argument in (*sys.argv[1:], *("500", "0")[len(sys.argv) - 1 :]))
    print(json.dumps(fuzz(calls, seed)))
