"""info() says which kernels are live, and why others are not."""

import os
import re
import subprocess
import sys

import pytest
import torch

import genfast as gf
from genfast import _extension
from genfast._info import _cuda


def test_info_names_versions_and_kernels():
    report = gf.info()
    assert report["genfast"] == gf.__version__ and report["torch"] == torch.__version__
    assert report["cpu_kernels"].split()[0].rstrip(",") == _extension.extension.isa()
    assert report["cpu_threads"] == torch.get_num_threads()
    assert os.path.samefile(report["extension"], _extension.extension.__file__)


def test_info_prints_as_a_table():
    lines = str(gf.info()).splitlines()
    assert len(lines) == len(gf.info())
    assert len({line.index(str(value)) for line, value in zip(lines, gf.info().values(), strict=True)}) == 1


def info_after(statements):
    """What a new process says of torch's global switches after these: they are not this process's to change."""
    names = ("matmul_precision", "matmul_tf32", "cudnn_tf32", "cudnn_benchmark")
    code = f"import torch, genfast\n{statements}\nprint(*(genfast.info()[name] for name in {names}), sep='|')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("on, word", [(True, "high"), (False, "highest")])
def test_global_switches_of_torch(on, word):
    statements = (
        f"torch.set_float32_matmul_precision({word!r})\n"
        f"torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = {on}"
    )
    assert info_after(statements) == f"{word}|{on}|{on}|{on}"


def test_switches_that_their_older_names_cannot_tell():
    cudnn = "torch.backends.cudnn"
    said = info_after(f"{cudnn}.conv.fp32_precision, {cudnn}.rnn.fp32_precision = 'ieee', 'tf32'")
    assert said.split("|")[2] == "not one word: set by fp32_precision"


def test_a_forced_instruction_set_is_reported():
    environment = os.environ | {"GENFAST_ISA": "scalar"}
    command = [sys.executable, "-c", "import genfast; print(genfast.info()['cpu_kernels'])"]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert printed.startswith("scalar (forced by GENFAST_ISA)")


@pytest.mark.parametrize(
    ("build", "cuda", "available", "capability", "words"),
    [
        ({"emulated": True, "cuda": ""}, None, False, None, "emulated on the CPU"),
        ({"emulated": False, "cuda": ""}, None, False, None, "not built: setup.py found no nvcc"),
        ({"emulated": False, "cuda": "sm_90"}, None, False, None, "built for sm_90, not live: this torch has no CUDA"),
        ({"emulated": False, "cuda": "sm_90"}, "13.0", False, None, "built for sm_90, not live: torch .* sees no GPU"),
        ({"emulated": False, "cuda": "sm_90"}, "13.0", True, (9, 0), r"live, built for sm_90, on A GPU \(sm_90\)"),
        ({"emulated": False, "cuda": "sm_80 sm_90"}, "13.0", True, (8, 9), r"live, built for .*\(sm_89\)"),
        ({"emulated": False, "cuda": "sm_80 sm_90"}, "13.0", True, (12, 0), r"live, built for .*\(sm_120\)"),
        (
            {"emulated": False, "cuda": "sm_80 sm_90"},
            "13.0",
            True,
            (7, 5),
            "built for .*, not live: no kernels for sm_75",
        ),
        ({"emulated": False, "cuda": "sm_90"}, "13.0", True, (8, 0), "built for sm_90, not live: no kernels for sm_80"),
    ],
)
def test_the_reason_why_cuda_is_not_live(build, cuda, available, capability, words, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A GPU")
    assert re.match(words, _cuda(build))
