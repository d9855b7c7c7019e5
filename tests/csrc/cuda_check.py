"""Compiles every CUDA file and all that calls it, without a GPU, and looks at what came out: `make cuda-check`.

A kernel must not spill or use local memory.  The drivers for aligned rows, map_kernel and reduce_kernel, must read and
write 16 bytes at a time, or 8 of four values of 16 bits.  Any warning is an error.  A kernel that predict/ expects to
be slower than its recorded share is a problem, a target that is missed is printed.  `cuda_check.py FILE.cu ...` checks
just those.
"""

import argparse
import importlib.util
import os
import re
import shlex
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
    """One kernel for one architecture: what ptxas says of it, and its memory instructions."""

    name: str
    architecture: str
    registers: int = 0
    shared: int = 0
    stack: int = 0
    spills: int = 0
    instructions: Counter = field(default_factory=Counter)

    def count(self, pattern: str) -> int:
        return sum(n for name, n in self.instructions.items() if re.match(pattern, name))

    def problems(self):
        if self.spills:
            yield f"spills {self.spills} bytes"
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


def compile_file(command: list[str], source: Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        errors = re.sub(r"^ptxas info.*\n|^    \d+ bytes stack frame.*\n", "", done.stderr, flags=re.M)
        raise SystemExit(f"cuda-check: {source.name} does not compile cleanly:\n{done.stdout}{errors}")
    return done.stderr


def kernels_of(source: Path, setup, toolkit: dict, environment: dict, folder: Path) -> list[Kernel]:
    """Compiles a .cu and reads ptxas's report and the machine code of each kernel."""
    target = folder / f"{source.stem}.o"
    strict = ["-Werror", "all-warnings", "-Xcompiler", "-Wall,-Wextra,-Wno-unknown-pragmas,-Werror", "-Xptxas", "-v"]
    command = [toolkit["nvcc"], "-ccbin", setup.compiler(), *setup.nvcc_flags(toolkit).split(), *strict]
    report = compile_file([*command, "-c", str(source), "-o", str(target)], source)
    kernels = {}
    for part in report.split("Compiling entry function ")[1:]:
        name, architecture = re.match(r"'(\S+)' for '(\S+)'", part).groups()
        number = lambda pattern, part=part: sum(int(n) for n in re.findall(pattern, part))  # noqa: E731
        kernels[architecture, name] = Kernel(
            name,
            architecture,
            registers=number(r"Used (\d+) registers"),
            shared=number(r"(\d+) bytes smem"),
            stack=number(r"(\d+) bytes stack frame"),
            spills=number(r"(\d+) bytes spill"),
        )
    sass = subprocess.run(["cuobjdump", "-sass", str(target)], env=environment, capture_output=True, text=True)
    if sass.returncode:
        raise SystemExit(f"cuda-check: cuobjdump failed on {source.name}:\n{sass.stdout[-500:]}{sass.stderr}")
    seen = set()
    for line in sass.stdout.splitlines():
        if match := re.search(r"code for (sm_\d+)", line):
            architecture = match[1]
        elif match := re.search(r"Function : (\S+)", line):
            kernel = kernels[architecture, match[1]]
            seen.add((architecture, match[1]))
        elif match := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@\S+\s+)?((?:LD|ST)[GL]?\.\S+|LDL|STL)", line):
            kernel.instructions[match[1]] += 1
    if seen != set(kernels):
        raise SystemExit(f"cuda-check: machine code and report of {source.name} name different kernels")
    for kernel, name in zip(kernels.values(), demangled(k.name for k in kernels.values()), strict=True):
        kernel.name = name
    return list(kernels.values())


def check_bind(source: Path, setup, toolkit: dict, folder: Path) -> None:
    """Compiles the CUDA side of a glue file; needs torch's headers, not its CUDA."""
    command = [setup.compiler(), *shlex.split(f"{setup.cxx_flags()} -O0 {setup.bind_flags(toolkit)} -Werror")]
    compile_file([*command, "-c", str(source), "-o", str(folder / f"{source.stem}.o")], source)


def predicted(folder: Path, sources: list[Path]) -> list[str]:
    """Prints what the kernels that were compiled are expected to take on an H200; those that became slower."""
    objects = {source.stem: folder / f"{source.stem}.o" for source in sources}
    rows = [row for row in table.rows() if all(stem in objects for stem, *_ in row.kernels)]
    return [f"slower than recorded: {line}" for line in table.problems(table.report(rows, objects))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", type=Path, help="CUDA files; all there are and the glue by default")
    sources = parser.parse_args().sources
    setup = load_setup()
    toolkit, environment = setup.cuda(), tools()
    glue = [] if sources else sorted((ROOT / "csrc" / "bind").glob("*.cpp"))
    sources = sources or [*sorted((ROOT / "csrc" / "kernels").glob("*.cu")), ROOT / "tests" / "csrc" / "primitives.cu"]
    jobs = int(os.environ.get("MAX_JOBS", os.cpu_count()))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        pending = [pool.submit(kernels_of, s, setup, toolkit, environment, Path(folder)) for s in sources]
        bound = [pool.submit(check_bind, s, setup, toolkit, Path(folder)) for s in glue]
        kernels = [kernel for job in pending for kernel in job.result()]
        for job in bound:
            job.result()
        os.environ |= environment
        slower = predicted(Path(folder), sources)
    if not kernels:
        raise SystemExit("cuda-check: found no kernel")

    print(f"{'registers':>9} {'shared':>6} {'stack':>5} {'spills':>6}  {'':6}  kernel")
    problems = slower
    for k in kernels:
        print(f"{k.registers:9} {k.shared:6} {k.stack:5} {k.spills:6}  {k.architecture:6}  {k.name.split('(')[0]}")
        problems += [f"{k.architecture}  {k.name}: {problem}" for problem in k.problems()]
    print(f"{len(kernels)} kernels in {len(sources)} CUDA files, {len(glue)} glue files: ", end="")
    print(f"{len(problems)} problems" if problems else "no warning, no spill, no local memory; wide accesses where due")
    for problem in problems:
        print("   ", problem)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
