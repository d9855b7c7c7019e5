"""Builds genfast._C from csrc/ with g++, nvcc and ninja.

One object per instruction set (picked at run time) and, where a working nvcc is found, CUDA kernels for sm_80, sm_90
and sm_100 plus PTX.  torch is used through its stable ABI only, so one build runs on torch 2.11 to 2.15, CPU or CUDA.

Environment
    GENFAST_CUDA=0|1        never | always build the CUDA kernels (default: if nvcc and libcudart_static.a are found)
    GENFAST_EMULATE=1       build genfast._C_emulate instead: the CUDA kernels compiled for the host, for tests
    GENFAST_SANITIZE=1      build with AddressSanitizer and UndefinedBehaviorSanitizer, as ..._sanitize
    GENFAST_SANITIZE=scalar the same without the kernels of wide instructions, which take two thirds of that time
    MAX_JOBS=N              compile N files at a time
"""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
ARCHITECTURES = (80, 90, 100)
TORCH_TARGET = "0x020b000000000000ULL"  # 2.11: the oldest torch that the binary runs on
ISAS = {"scalar": (1, "")}
if platform.machine() in ("x86_64", "AMD64") and os.environ.get("GENFAST_SANITIZE") != "scalar":
    ISAS |= {
        "avx2": (8, "-mavx2 -mfma -mf16c"),
        "avx512": (16, "-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl"),
    }


def flag(name: str) -> bool:
    return os.environ.get(name, "0") == "1"


SCALAR = os.environ.get("GENFAST_SANITIZE") == "scalar"
EMULATE, SANITIZE = flag("GENFAST_EMULATE"), SCALAR or flag("GENFAST_SANITIZE")
# Of -g only the lines of traces, and no object-size, which sees what addresses show too: half of the time.
SANITIZERS = (
    "-O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize=object-size "
    "-fno-sanitize-recover=undefined"
)
MODULE = "_C" + "_emulate" * EMULATE + "_sanitize" * SANITIZE


def need(module: str) -> Path:
    """The folder of a Python package that the build needs."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(
            f"genfast: building needs the Python package {module!r}, which this environment lacks.\n"
            f"    pip install {module}\n"
            "and then    pip install --no-build-isolation .    (the build must see the torch that it will run with)"
        )
    return Path(spec.submodule_search_locations[0])


def compiler() -> str:
    """A C++20 compiler."""
    cxx = os.environ.get("CXX", "g++")
    if shutil.which(cxx) is None:
        raise SystemExit(f"genfast: no C++ compiler {cxx!r}.  apt-get install g++  (11 or newer), or set CXX.")
    probe = subprocess.run([cxx, "-std=c++20", "-x", "c++", "-fsyntax-only", "-"], input="int main(){}", text=True)
    if probe.returncode:
        raise SystemExit(f"genfast: {cxx!r} does not take -std=c++20; g++ 11 or newer does.")
    return cxx


def cuda() -> dict | None:
    """nvcc, its runtime library and the architectures it knows; None for a CPU build, with the reason printed."""
    wish = os.environ.get("GENFAST_CUDA")
    if EMULATE:
        return None
    if wish == "0":
        print("genfast: building for the CPU only (GENFAST_CUDA=0).", flush=True)
        return None
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    nvcc = shutil.which("nvcc", path=f"{home}/bin") or shutil.which("nvcc")
    reason = "no nvcc on PATH or in CUDA_HOME"
    if nvcc:
        dry = subprocess.run([nvcc, "-dryrun", "-x", "cu", os.devnull], capture_output=True, text=True).stderr
        top = re.search(r"^#\$ TOP=(.*)$", dry, re.M)
        top = Path(top[1].strip() if top else home).resolve()
        folders = (top / "lib64", top / "lib", top / "targets/x86_64-linux/lib")
        libraries = [folder for folder in folders if (folder / "libcudart_static.a").exists()]
        known = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True).stdout.split()
        architectures = [a for a in ARCHITECTURES if f"compute_{a}" in known]
        if libraries and architectures:
            return {"nvcc": nvcc, "top": top, "lib": libraries[0], "architectures": architectures}
        reason = f"{nvcc} has no libcudart_static.a" if architectures else f"{nvcc} knows none of sm_80, sm_90, sm_100"
    if wish == "1":
        raise SystemExit(
            f"genfast: GENFAST_CUDA=1, but {reason}.  Install the CUDA toolkit (12.8 or newer), or set CUDA_HOME."
        )
    print(f"genfast: building for the CPU only ({reason}).", flush=True)
    return None


def cxx_flags() -> str:
    """Of every C++ file."""
    warnings = "-Wall -Wextra -Wno-uninitialized -Wno-maybe-uninitialized"  # gcc's own AVX-512 headers
    optimize = (SANITIZERS if SANITIZE else "-O3") + " -DGENFAST_SCALAR" * SCALAR
    return f"-std=c++20 -fPIC -fvisibility=hidden -ffp-contract=off -fmacro-prefix-map={ROOT}/= {optimize} {warnings}"


def bind_flags(toolkit: dict | None, torch: Path | None = None) -> str:
    """Of the files that see torch and Python.  Our pybind11 comes first: torch has a copy that wants all of its ABI."""
    includes = f"-isystem {need('pybind11')}/include -isystem {torch or need('torch')}/include"
    flags = f"-DGENFAST_ISA=scalar -DGENFAST_LANES=1 {includes} -isystem {sysconfig.get_path('include')}"
    flags += f" -O2 -DTORCH_TARGET_VERSION={TORCH_TARGET} -DGENFAST_MODULE={MODULE}"  # no loops: -O3 only takes longer
    if toolkit:
        names = " ".join(f"sm_{a}" for a in toolkit["architectures"])
        flags += f" -DGENFAST_CUDA='\"{names}\"'"
    return flags + " -DGENFAST_EMULATE" * EMULATE


def nvcc_flags(toolkit: dict) -> str:
    """Of every CUDA file: machine code for each architecture, and PTX of the newest for those to come."""
    architectures = toolkit["architectures"]
    codes = " ".join(f"-gencode arch=compute_{a},code=sm_{a}" for a in architectures)
    ptx = f"-gencode arch=compute_{architectures[-1]},code=compute_{architectures[-1]}"
    return (
        f"-std=c++20 -O3 -fmad=false --expt-relaxed-constexpr {codes} {ptx} "
        "-Xcompiler -fPIC,-fvisibility=hidden,-ffp-contract=off -DGENFAST_ISA=cuda -DGENFAST_LANES=1 "
        "-Xcompiler -Wall,-Wextra,-Wno-unknown-pragmas"
    )


def rule(name: str, command: str, depends: bool = True) -> str:
    """A ninja rule; `depends`: the compiler writes down which headers a file includes.  Its words stay in a .log."""
    dependencies = "\n  depfile = $out.d\n  deps = gcc" if depends else ""
    command += " > $out.log 2>&1; status=$$?; cat $out.log; exit $$status"
    return f"rule {name}\n  command = {command}{dependencies}\n  description = {name} $out"


def ninja_file(output: Path, objects: Path) -> str:
    """The whole build as ninja statements."""
    cxx, toolkit, torch = compiler(), cuda(), need("torch")
    link = f"-L{torch}/lib -Wl,--no-as-needed -ltorch -ltorch_cpu -Wl,-rpath,'$$ORIGIN/../torch/lib'"
    # One memory of what was built, for an emulated build takes the CPU kernels of the ordinary one.
    lines, built = [f"builddir = {ROOT / 'build'}"], []
    shared = objects if SANITIZE else ROOT / "build" / "cpu"

    def build(source: Path, by: str, flags: str, suffix: str = "", folder: Path = objects) -> None:
        target = folder / (source.stem + suffix + ".o")
        lines.append(f"build {target}: {by} {source}\n  flags = {flags}")
        built.append(str(target))

    lines.append(rule("cxx", f"{cxx} {cxx_flags()} $flags -MMD -MF $out.d -c $in -o $out"))
    lines.append(rule("link", f"{cxx} -shared {SANITIZERS * SANITIZE} $in -o $out $flags", depends=False))
    if toolkit:
        command = f"{toolkit['nvcc']} -ccbin {cxx} {nvcc_flags(toolkit)} -MMD -MF $out.d -c $in -o $out"
        lines.append(rule("nvcc", command))
        link += f" -L{toolkit['lib']} -lcudart_static -lrt -ldl -lpthread"

    kernels = ROOT / "csrc" / "kernels"
    for source in sorted(kernels.glob("*.cu")):  # first: one of them takes longest
        if toolkit:
            build(source, "nvcc", "")
        elif EMULATE:
            # Fused multiply-add and float16 in hardware, for speed: their results are the same.  -O3 would take longer
            # to compile than it saves.
            fast = "-O1 -mfma -mf16c" if "avx2" in ISAS else "-O1"
            build(source, "cxx", f"-x c++ -DGENFAST_EMULATE -DGENFAST_ISA=emulated -DGENFAST_LANES=1 {fast}")
    for source in sorted(kernels.glob("*_cpu.cpp")):
        for isa, (lanes, flags) in ISAS.items():
            build(source, "cxx", f"-DGENFAST_ISA={isa} -DGENFAST_LANES={lanes} {flags}", "_" + isa, shared)
    build(kernels / "isa.cpp", "cxx", "")
    for source in sorted((ROOT / "csrc" / "bind").glob("*.cpp")):
        build(source, "cxx", bind_flags(toolkit), "_bind")
    lines.append(f"build {output}: link {' '.join(built)}\n  flags = {link}")
    lines.append(f"default {output}")
    return "\n".join(lines) + "\n"


class BuildWithNinja(build_ext):
    def build_extension(self, extension: Extension) -> None:
        output = Path(self.get_ext_fullpath(extension.name)).resolve()
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = ROOT / "build" / MODULE
        folder.mkdir(parents=True, exist_ok=True)
        need("ninja")
        (folder / "build.ninja").write_text(ninja_file(output, folder))
        jobs = os.environ.get("MAX_JOBS")
        command = [sys.executable, "-m", "ninja", "-C", str(folder), *(["-j", jobs] if jobs else [])]
        if subprocess.run(command).returncode:
            raise SystemExit(
                "genfast: compiling failed; the compiler's message is above.  Needed: g++ 11 or newer, torch 2.11 or "
                "newer, and for CUDA nvcc 12.8 or newer (GENFAST_CUDA=0 builds for the CPU only).  "
                "Out of memory?  MAX_JOBS=1 compiles one file at a time."
            )


if __name__ == "__main__":
    setup(ext_modules=[Extension(f"genfast.{MODULE}", [])], cmdclass={"build_ext": BuildWithNinja})
