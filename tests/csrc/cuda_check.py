"""Builds the extension with CUDA, without a GPU, and looks at what came out: `make cuda-check`.

A kernel must not use local memory, as one that spills does.  The drivers for aligned rows, map_kernel and
reduce_kernel, must read and write 16 bytes at a time, or 8 of four values of 16 bits.  Any warning is an error.  A
kernel that predict/ expects to be slower than its recorded share is a problem, a target that is missed is printed.
`cuda_check.py FILE.cu ...` compiles and checks just those.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from predict import table

ROOT = Path(__file__).resolve().parents[2]
os.environ["GENFAST_CUDA"] = "1"  # without nvcc, setup.py then stops and says why
TILE = 12  # more loads than a row has coefficients, fewer than a thread has elements (csrc/kernels/packs.h)


def load_setup():
    """setup.py as a module: the flags are there and nowhere else."""
    spec = importlib.util.spec_from_file_location("genfast_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Kernel:
    """One kernel for one architecture: what it uses, and its memory instructions."""

    name: str
    architecture: str
    registers: int
    stack: int
    shared: int
    instructions: Counter = field(default_factory=Counter)

    def count(self, pattern: str) -> int:
        return sum(n for name, n in self.instructions.items() if re.match(pattern, name))

    def problems(self):
        if self.stack or self.count("LDL|STL"):
            yield f"uses local memory: a stack frame of {self.stack} bytes"
        driver = re.search(r"\b(map|reduce)_kernel<(.*)>\(", self.name)
        if driver is None:
            return
        wide = r".*(128|64)" if re.search("BFloat16|Half", driver[2]) else r".*128"  # four of 16 bits are 8 bytes
        if "NoiseBody" not in driver[2] and not self.count(r"LDG\." + wide):
            yield "has no wide load"
        if self.count(r"LDG?\.E(?!.*128)(?!.*64)") >= TILE:  # a few coefficients of the row are narrow
            yield "loads a tile element by element"
        if not self.count(r"STG\." + wide) and driver[1] == "map":
            yield "has no wide store"
        narrow = self.count(r"STG?\.E(?!.*128)(?!.*64)")
        if narrow > (driver[1] == "reduce"):  # a reduction stores its sum
            yield f"has {narrow} stores narrower than 8 bytes"


def demangled(names) -> list[str]:
    """Readable names, without our namespaces."""
    text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    short = re.sub(r"genfast::(cuda::)?|\((anonymous namespace|genfast::\w+)\)|^void ", "", text, flags=re.M)
    return [re.sub(r"\(\w+\)(?=\d)", "", name) for name in short.splitlines()]


def tools() -> dict:
    """An environment in which cuobjdump and the nvdisasm that it calls are found: PyPI's, or the toolkit's."""
    wheels = sorted(Path(sysconfig.get_path("purelib")).glob("nvidia/*/bin"))
    path = os.pathsep.join([*map(str, wheels), os.environ.get("PATH", ""), "/usr/local/cuda/bin"])
    for tool in ("cuobjdump", "nvdisasm"):
        if shutil.which(tool, path=path) is None:
            raise SystemExit(f"cuda-check: no {tool}.  pip install nvidia-cuda-{tool}")
    return os.environ | {"PATH": path}


def compile_file(command: list[str], source: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"cuda-check: {source.name} does not compile cleanly:\n{done.stdout}{done.stderr}")


def compiled(source: Path, setup, toolkit: dict, folder: Path) -> Path:
    """The object of a .cu, as the build makes it."""
    target = folder / f"{source.stem}.o"
    strict = ["-Werror", "all-warnings", "-Xcompiler", "-Werror"]
    command = [toolkit["nvcc"], "-ccbin", setup.compiler(), *setup.nvcc_flags(toolkit).split(), *strict]
    compile_file([*command, "-c", str(source), "-o", str(target)], source)
    return target


def build() -> tuple[dict[Path, Path], int]:
    """Builds the extension: the objects of the CUDA files, and how many others there are.  Warnings are errors."""
    if subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=ROOT).returncode:
        raise SystemExit("cuda-check: the build failed")
    folder, sources = ROOT / "build" / "_C", sorted((ROOT / "csrc" / "kernels").glob("*.cu"))
    objects = {source: folder / f"{source.stem}.o" for source in sources}
    glue = [folder / f"{source.stem}_bind.o" for source in sorted((ROOT / "csrc" / "bind").glob("*.cpp"))]
    for target in [*objects.values(), *glue]:
        if said := target.with_suffix(".o.log").read_text():
            raise SystemExit(f"cuda-check: {target.name} was not compiled cleanly:\n{said}")
    return objects, len(glue)


def kernels_of(target: Path, environment: dict) -> list[Kernel]:
    """The kernels of an object: what they use, and their machine code."""

    def printed(what: str) -> str:
        done = subprocess.run(["cuobjdump", what, str(target)], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"cuda-check: cuobjdump failed on {target.name}:\n{done.stdout[-500:]}{done.stderr}")
        return done.stdout

    kernels = {}
    for line in printed("-res-usage").splitlines():
        if match := re.match(r"arch = (sm_\d+)", line):
            architecture = match[1]
        elif match := re.match(r" Function (\S+):", line):
            name = match[1]
        elif match := re.match(r"  REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", line):
            registers, stack, shared, local = map(int, match.groups())
            kernels[architecture, name] = Kernel(name, architecture, registers, stack + local, shared)
    seen = set()
    for line in printed("-sass").splitlines():
        if match := re.search(r"code for (sm_\d+)", line):
            architecture = match[1]
        elif match := re.search(r"Function : (\S+)", line):
            kernel = kernels[architecture, match[1]]
            seen.add((architecture, match[1]))
        elif match := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@\S+\s+)?((?:LD|ST)[GL]?\.\S+|LDL|STL)", line):
            kernel.instructions[match[1]] += 1
    if seen != set(kernels):
        raise SystemExit(f"cuda-check: usage and machine code of {target.name} name different kernels")
    for kernel, name in zip(kernels.values(), demangled(k.name for k in kernels.values()), strict=True):
        kernel.name = name
    return list(kernels.values())


def predicted(objects: dict[str, Path]) -> list[str]:
    """Prints what the kernels that were compiled are expected to take on an H200; those that became slower."""
    rows = [row for row in table.rows() if all(stem in objects for stem, *_ in row.kernels)]
    return [f"slower than recorded: {line}" for line in table.problems(table.report(rows, objects))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", type=Path, help="CUDA files; by default the build, and the primitives")
    sources, glue, objects = parser.parse_args().sources, 0, {}
    setup = load_setup()
    toolkit, environment = setup.cuda(), tools()
    if not sources:
        sources, (objects, glue) = [ROOT / "tests" / "csrc" / "primitives.cu"], build()
    jobs = int(os.environ.get("MAX_JOBS", os.cpu_count()))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        targets = pool.map(lambda source: compiled(source, setup, toolkit, Path(folder)), sources)
        objects |= dict(zip(sources, targets, strict=True))
        kernels = [k for found in pool.map(lambda o: kernels_of(o, environment), objects.values()) for k in found]
        os.environ |= environment
        slower = predicted({source.stem: target for source, target in objects.items()})
    if not kernels:
        raise SystemExit("cuda-check: found no kernel")

    print(f"{'registers':>9} {'shared':>6} {'stack':>5}  {'':6}  kernel")
    problems = slower
    for k in kernels:
        print(f"{k.registers:9} {k.shared:6} {k.stack:5}  {k.architecture:6}  {k.name.split('(')[0]}")
        problems += [f"{k.architecture}  {k.name}: {problem}" for problem in k.problems()]
    print(f"{len(kernels)} kernels in {len(objects)} CUDA files, {glue} glue files: ", end="")
    print(f"{len(problems)} problems" if problems else "no warning, no spill, no local memory; wide accesses where due")
    for problem in problems:
        print("   ", problem)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
