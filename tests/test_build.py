"""The build and what guards it: the module's own report, clear errors, and planted bugs that the checks must catch."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cases
import fuzz
import pytest

from genfast._extension import extension
from genfast.verification.invariance import ISAS

ROOT = Path(__file__).resolve().parent.parent


def python(*arguments, cwd=ROOT, **environment):
    """Runs Python in a process of its own, without this one's GENFAST_ settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GENFAST_")}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=clean | environment, capture_output=True, text=True)


@pytest.fixture
def setup_py(monkeypatch):
    """setup.py as a module, in an environment that asks for nothing."""
    for name in ("GENFAST_CUDA", "GENFAST_EMULATE", "GENFAST_SANITIZE", "CUDA_HOME", "CUDA_PATH", "CXX"):
        monkeypatch.delenv(name, raising=False)
    spec = importlib.util.spec_from_file_location("genfast_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def no_nvcc(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))


# ---- the compiled module ----


def test_build_info():
    info = extension.build_info()
    assert info.keys() == {"cuda", "emulated", "slots", "step_columns"}
    assert re.fullmatch(r"(sm_\d+( sm_\d+)*)?", info["cuda"])
    assert info["emulated"] == (os.environ.get("GENFAST_EMULATE") == "1")


REPORT_ISA = "from genfast._extension import extension; print(extension.isa())"


@pytest.mark.parametrize("isa", ISAS)
def test_isa_is_forced(isa):
    done = python("-c", REPORT_ISA, GENFAST_ISA=isa)
    if ISAS.index(isa) <= ISAS.index(extension.best_isa()):
        assert done.stdout.strip() == isa, done.stderr
    else:
        assert f"this processor has no {isa}" in done.stderr and extension.best_isa() in done.stderr


def test_isa_unknown():
    done = python("-c", REPORT_ISA, GENFAST_ISA="sse9")
    assert done.returncode and "ValueError: GENFAST_ISA must be scalar, avx2 or avx512; got sse9" in done.stderr


def test_extension_missing():
    done = python("-c", "import sys; sys.modules['genfast._C'] = None; import genfast; genfast.ops")
    assert done.returncode
    assert "genfast._C could not be loaded" in done.stderr and "make build" in done.stderr
    assert "pip install --no-build-isolation" in done.stderr


def test_import_is_silent_and_quick(tmp_path):
    """Less than 3 s of processor time with torch's own import, and little of it ours: at the best of three tries."""
    script = """if True:
        import json, time
        start = time.process_time(); import torch; torch_done = time.process_time()
        import genfast as gf; gf.Diffusion, gf.VAE, gf.GAN, gf.fit, gf.evaluate
        with open({!r}, "w") as file:
            json.dump([torch_done - start, time.process_time() - torch_done], file)"""
    file = tmp_path / "seconds.json"
    times = []
    for _ in range(3):
        done = python("-c", script.format(str(file)))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        times.append(json.loads(file.read_text()))
        if sum(times[-1]) < 3 and times[-1][1] < 1.5:
            return
    pytest.fail(f"seconds of torch and of ours: {times}")


DEVICES = """runs, 232448, 231448, no error left
no kernels for sm_75, 65536, 0, no error left
runs, 101376, 100376, no error left
runs, 49152, 48152, no error left
"""


def test_a_device_is_asked_once_what_it_runs_and_how_much_shared_memory_it_has(tmp_path):
    """By a runtime made up for it: four devices, twice; a kernel that declares 1,000 bytes asks for the rest.

    Where the driver has no answer, a multiprocessor runs a block.
    """
    csrc, program = ROOT / "tests" / "csrc", str(tmp_path / "device")
    command = ["g++", "-std=c++20", "-Wall", "-Wextra", "-Werror", "-I", str(csrc / "fake"), str(csrc / "device.cpp")]
    subprocess.run([*command, "-o", program], check=True)
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    resident = "528 blocks, no error left\n132 blocks, no error left\n"
    assert printed == DEVICES * 2 + resident + "0 allowed, 6 questions\n"


# ---- setup.py ----


def test_cuda_refused(setup_py, monkeypatch, capsys):
    monkeypatch.setenv("GENFAST_CUDA", "0")
    assert setup_py.cuda() is None
    assert "CPU only (GENFAST_CUDA=0)" in capsys.readouterr().out


def test_cuda_absent(setup_py, no_nvcc, capsys):
    assert setup_py.cuda() is None
    assert "CPU only (no nvcc" in capsys.readouterr().out


def test_cuda_insisted_on(setup_py, no_nvcc, monkeypatch):
    monkeypatch.setenv("GENFAST_CUDA", "1")
    with pytest.raises(SystemExit, match=r"GENFAST_CUDA=1, but no nvcc.*CUDA toolkit"):
        setup_py.cuda()


def test_compiler_missing(setup_py, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(SystemExit, match=r"no C\+\+ compiler 'no-such-compiler'.*apt-get install g\+\+"):
        setup_py.compiler()


def test_package_missing(setup_py):
    with pytest.raises(SystemExit, match=r"(?s)no_such_package.*pip install no_such_package"):
        setup_py.need("no_such_package")


def test_cuda_check_without_nvcc(no_nvcc):
    done = python("tests/csrc/cuda_check.py", PATH=os.environ["PATH"], CUDA_HOME=os.environ["CUDA_HOME"])
    assert done.returncode and "no nvcc" in done.stderr


# ---- planted bugs ----


def copy_with(folder: Path, file: str = "", old: str = "", new: str = "") -> Path:
    """Copies csrc/, with one line changed."""
    shutil.copytree(ROOT / "csrc", folder / "csrc")
    if file:
        path = folder / "csrc" / file
        text = path.read_text()
        assert old in text, f"{file} has changed: plant another bug"
        path.write_text(text.replace(old, new, 1))
    return folder


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_headers_check_without_a_network(tmp_path, ci, code):
    """Left out with a word, but not where everything must have been checked."""
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "XDG_CACHE_HOME": str(tmp_path), "CI": ci}
    done = python("tests/csrc/headers_check.py", **offline)
    assert done.returncode == code, done.stderr
    assert "torch 2.11.0 could not be downloaded; its headers were not tried" in done.stdout


def test_headers_check_names_what_does_not_compile(tmp_path):
    headers = tmp_path / "genfast" / "torch-2.11.0" / "torch" / "include"
    headers.mkdir(parents=True)
    done = python("tests/csrc/headers_check.py", XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode and ".cpp does not compile cleanly" in done.stderr
    assert "torch/csrc/stable/accelerator.h" in done.stderr


def cuda_check(source: Path):
    done = python("tests/csrc/cuda_check.py", source)
    for missing in ("no nvcc", "no cuobjdump", "no nvdisasm"):
        if missing in done.stderr:
            pytest.skip(f"needs nvcc, cuobjdump and nvdisasm: {done.stderr.strip()}")
    return done


INDEXED_ARRAY = """
__global__ void planted(const float* in, float* out, int n) {
  float values[64];
  for (int i = 0; i < 64; ++i) values[i] = in[i];
  for (int i = 0; i < n; ++i) values[(i * n) & 63] += in[i];
  out[n] = values[n & 63];
}"""
TOO_MANY_REGISTERS = """
__global__ void __launch_bounds__(1024, 2) planted(const float* in, float* out) {
  float values[80];
#pragma unroll
  for (int i = 0; i < 80; ++i) values[i] = in[i * 1024 + threadIdx.x];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 80; ++i) out[i * 1024 + threadIdx.x] = values[i] * values[79 - i];
}"""
UNUSED_VARIABLE = "__global__ void planted(float* out) { int unused = 3; }"


@pytest.mark.slow
@pytest.mark.parametrize(
    "text, complaint",
    [
        (INDEXED_ARRAY, "local memory"),
        (TOO_MANY_REGISTERS, "local memory"),
        (UNUSED_VARIABLE, "does not compile cleanly"),
    ],
    ids=["local array", "spill", "warning"],
)
def test_cuda_check_rejects_a_kernel(tmp_path, text, complaint):
    source = tmp_path / "planted.cu"
    source.write_text(text)
    done = cuda_check(source)
    assert done.returncode == 1 and complaint in done.stdout + done.stderr, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "old, new, complaint",
    [
        ("", "", ""),
        ("return vector;", "return false;", "no wide load"),
        (
            "Pack<width, T>::store(to + first + i * stride, from);",
            "each(i, [&](int k, int64_t at) { narrow(from[k], to[at]); });",
            "stores narrower",
        ),
    ],
    ids=["as it is", "loads", "stores"],
)
def test_cuda_check_wants_wide_accesses(tmp_path, old, new, complaint):
    done = cuda_check(
        copy_with(tmp_path, old and "kernels/tile.cuh", old, new) / "csrc/kernels/dynamic_threshold_cuda.cu"
    )
    assert done.returncode == bool(complaint), done.stdout + done.stderr
    assert complaint in done.stdout


def rebuild(module: str, stem: str, folder: Path) -> None:
    """Compiles one source of `folder` as the build did, and links it with the build's other objects."""
    built = ROOT / "build" / module
    if not (built / "build.ninja").exists():
        pytest.skip(f"needs the build of {module}, which `make test` and `make sanitize` make")
    listed = subprocess.run(
        [sys.executable, "-m", "ninja", "-C", str(built), "-t", "commands"], capture_output=True, text=True, check=True
    ).stdout
    *compiles, link = [line for line in listed.splitlines() if not line.startswith("ninja:")]
    shutil.copytree(ROOT / "genfast", folder / "genfast", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for command in compiles:
        target = Path(re.search(r" -o (\S+)", command)[1])
        if target.name.startswith(stem):
            command = command.replace(f"{ROOT}/csrc", f"{folder}/csrc").replace(str(target), str(folder / target.name))
            subprocess.run(command, shell=True, check=True)
            link = link.replace(str(target), str(folder / target.name))
    assert str(folder) in link, f"the build of {module} has no {stem}"
    output = Path(re.search(r" -o (\S+)", link)[1])
    subprocess.run(link.replace(str(output), str(folder / "genfast" / output.name)), shell=True, check=True, cwd=built)
    (folder / "tests" / "ops").mkdir(parents=True)
    for file in ("conftest.py", "cases.py", "fuzz.py", "ops/test_ops.py"):
        shutil.copy(ROOT / "tests" / file, folder / "tests" / file)


@pytest.mark.slow
def test_emulation_sees_a_planted_off_by_one(tmp_path):
    """A CUDA kernel that takes the last element of a row for one beyond it."""
    old = "if (start + k < shape.features) visit"
    copy_with(tmp_path, "kernels/tile.cuh", old, old.replace("start + k", "start + k + 1"))
    rebuild("_C_emulate", "diffuse_cuda", tmp_path)
    tests = ("-m", "pytest", "tests/ops/test_ops.py", "-k", "cuda_twin and (diffuse or normal)")
    done = python(*tests, cwd=tmp_path, GENFAST_EMULATE="1")
    assert re.search(r"FAILED .*test_cuda_twin\[diffuse\]", done.stdout), done.stdout + done.stderr
    assert "test_cuda_twin[normal]" not in done.stdout and " 1 passed" in done.stdout, "only diffuse was planted"


@pytest.mark.slow
def test_sanitizer_sees_a_planted_read(tmp_path):
    """A CPU kernel that reads one element beyond the end of a tensor of torch's."""
    copy_with(tmp_path, "kernels/map.h", "left >= CpuTile::kSize", "left + 1 >= CpuTile::kSize")
    rebuild("_C_sanitize", "diffuse_cpu", tmp_path)
    tests = ("-m", "pytest", "-p", "no:cacheprovider", "-sv", "tests/ops/test_ops.py")
    done = python(*tests, "-k", "accuracy and (normal or diffuse)", cwd=tmp_path, **fuzz.sanitized())
    assert done.returncode and "heap-buffer-overflow" in done.stderr, done.stdout + done.stderr
    assert "test_accuracy[cpu-7-normal] PASSED" in done.stdout, "only diffuse was planted"
    assert "READ of size" in done.stderr and "csrc/kernels/diffuse_cpu.cpp" in done.stderr


@pytest.mark.parametrize("isa", cases.ISAS[1:])
def test_ends_of_rows_under_sanitizers(setup_py, isa, tmp_path):
    """Kernels of wide instructions, which `make test` does not build with sanitizers."""
    lanes, flags = setup_py.ISAS[isa]
    flags = [*flags.split(), f"-DGENFAST_ISA={isa}", f"-DGENFAST_LANES={lanes}", *setup_py.SANITIZERS.split()]
    subprocess.run(["g++", "-std=c++20", *flags, ROOT / "tests/csrc/ends.cpp", "-o", tmp_path / "ends"], check=True)
    done = subprocess.run([tmp_path / "ends"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "ok\n", done.stderr
