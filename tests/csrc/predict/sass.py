"""Machine code as cuobjdump prints it: instructions with their stall counts and scoreboards."""

import re
import subprocess
from dataclasses import dataclass
from functools import lru_cache

LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+((?:@!?U?P\w+\s+)?)([^;]*?)\s*;\s+/\* 0x\w{16} \*/\s+/\* 0x(\w{16}) \*/")


@dataclass(frozen=True)
class Instruction:
    at: int  # its address
    name: str  # with its guard: "@P0 LDG.E.128"
    text: str  # with its operands
    stall: int  # cycles before the next one may issue
    sets: tuple[int, int]  # scoreboards: of the result, of the operands; 7 is none
    waits: tuple[int, ...]  # scoreboards that must be free before it

    @property
    def op(self) -> str:
        return self.name.split()[-1]


@dataclass(frozen=True)
class Kernel:
    name: str
    code: tuple[Instruction, ...]
    registers: int
    shared: int  # bytes that it declares


def instructions(body: str):
    """The control word's upper bits: stall (4), yield, scoreboard of the result (3), of the operands (3), waits (6)."""
    for at, guard, text, high in LINE.findall(body):
        control = int(high, 16) >> 41
        waits = tuple(k for k in range(6) if control >> 11 + k & 1)
        sets = (control >> 5 & 7, control >> 8 & 7)
        yield Instruction(int(at, 16), guard + text.split()[0], text, max(control & 15, 1), sets, waits)


def output(command: list[str], text: str | None = None) -> str:
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


@lru_cache
def kernels(path: str) -> dict[str, tuple[str, int, int]]:
    """Of an object or a cubin, those for sm_90: name without namespaces and casts, (listing, registers, shared)."""
    flags = [] if path.endswith(".cubin") else ["-arch", "sm_90"]
    usage = output(["cuobjdump", "-res-usage", *flags, path])
    used = {n: (int(r), int(s)) for n, r, s in re.findall(r"Function (\S+):\s+REG:(\d+) STACK:\d+ SHARED:(\d+)", usage)}
    _, *parts = re.split(r"Function : (\S+)\n", output(["cuobjdump", "-sass", *flags, path]))
    names = output(["c++filt"], "\n".join(parts[::2])).splitlines()
    plain = [re.sub(r"\(anonymous namespace\)::|\w+::|^void ", "", name) for name in names]
    plain = [re.sub(r"\(\w+\)(?=\d)", "", name) for name in plain]
    return {name: (body, *used[raw]) for name, raw, body in zip(plain, parts[::2], parts[1::2])}


@lru_cache
def find(path: str, name: str) -> Kernel:
    """The one kernel whose name begins with `name`."""
    found = [full for full in kernels(path) if full.startswith(name)]
    if len(found) != 1:
        names = sorted({full.split("(")[0] for full in found or kernels(path)})
        raise LookupError(f"{len(found)} kernels of {path} begin with {name!r}; there are {names}")
    body, registers, shared = kernels(path)[found[0]]
    return Kernel(found[0], tuple(instructions(body)), registers, shared)
