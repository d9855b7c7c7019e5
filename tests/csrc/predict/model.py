"""The time of a kernel on an H200: the 3-norm of what each bottleneck alone would take.  README.md has the formulas."""

import math
import re
from dataclasses import dataclass, field, replace
from functools import cache

from .sass import find
from .walk import walk

SMS, SCHEDULERS, GHZ, SHARED = 132, 4, 1.98, 227 * 1024
BYTES_PER_US = 4.29e6  # of copies of 2 GiB and of 256 MiB, START_US taken off
COPY = 4.266e6  # bytes a microsecond of the copy that shares are of
CACHE_BYTES = 40e6  # of L2, that a second pass finds there
START_US, NEXT_US = 5.0, 2.5  # of the first launch, and of each that follows
DRAM, CACHE, NORM = 1400, 350, 3.0  # calibrated: cycles of a load that misses or hits L2; the soft maximum
LATENCY = {"LDG": CACHE, "LD.": 200, "ATO": 700, "RED": 700}  # LD: another block's shared memory
ANY = r"(@\S+ )?"  # a guard or none

PIPES = {  # cycles for which a warp's instruction holds its scheduler's share of a pipe
    "issue": (1, ""),
    "fma": (1, r"IMAD|FFMA|FMUL|FADD|HFMA2"),
    "imad": (2, r"IMAD"),
    "alu": (2, r"IADD3|LOP3|SHF|LEA|[IF]SETP|[FI]MNMX|F?SEL|MOV|PRMT|VI|I2FP|F2FP|PLOP3|IABS"),
    "lsu": (4, r"(LDG|STG|LDS|STS|SHFL|ATOM|RED|LDL|STL|LD\.|ST\.)(?!.*128)"),
    "wide": (16, r"(LDG|STG|LDS|STS|LDGSTS)\S*128"),  # the same pipe, four times as long
    "fp64": (2, r"D(FMA|ADD|MUL|SETP)"),
    "mma": (6, r"HMMA"),
    "xu": (8, r"MUFU|I2F\.|F2I|F2F\.|POPC|FLO|BREV|FCHK"),
}


@dataclass(frozen=True)
class Launch:
    """How a kernel is launched, and what a thread of it does."""

    threads: int  # of a block
    blocks: int
    elements: float  # in all
    per_thread: int  # elements that a thread takes
    read: float = 0.0  # bytes an element, from DRAM, 16 at a time
    write: float = 0.0
    narrow: float = 0.0  # bytes an element that move fewer at a time
    passes: int = 1  # times that a thread reads what it reads
    shared: int = 0  # dynamic, bytes a block
    before: int = 0  # 16-byte loads of parameters ahead of the first of x
    after: int = 0  # and behind the last one
    extra_launches: int = 0  # small ones, of torch
    load: str = ANY + r"LDG\S*\.128"
    store: str = ANY + r"STG\S*\.128"
    marks: dict = field(default_factory=dict, hash=False)  # pattern: how many of these the path has at least
    once: dict = field(default_factory=dict, hash=False)  # of these, what is not in the loop
    critical: dict = field(default_factory=dict, hash=False)  # and what only the thread has for which the others wait
    turns: int = 1  # of the loop, over which per_thread and marks are spread

    @property
    def bytes(self) -> float:
        return self.elements * (self.read + self.write + self.narrow)

    def part(self, turns):
        marks = {p: n * turns // self.turns for p, n in self.marks.items()}
        return replace(self, per_thread=self.per_thread * turns // self.turns, marks=marks, turns=1)


def alone(path, stream, first, count):
    """Cycles of a warp that has a scheduler to itself: in order, it waits where the compiler's scoreboards say so."""
    now, free, seen, stream = 0, [0] * 8, 0, re.compile(stream)
    copied, groups = 0, []  # asynchronous copies: when the last is there, and the last of each group
    for i in path:
        now = max([now, *(free[k] for k in i.waits)])
        if i.op.startswith("LDGSTS"):
            copied = now + DRAM
        elif i.op.startswith("LDGDEPBAR"):
            groups.append(copied)
        elif i.op.startswith("DEPBAR.LE"):
            now = max([now, *groups[: len(groups) - int(i.text.rsplit("0x", 1)[1], 16)]])
        cycles = LATENCY.get(i.op[:3], 30)
        if stream.match(i.name):
            cycles = DRAM if first <= seen < first + count else CACHE
            seen += 1
        for k, wait in zip(i.sets, (cycles, 20)):
            free[k] = max(free[k], now + wait)
        now += i.stall + 30 * i.op.startswith("BAR") + 250 * i.op.startswith("UCGABAR_WAIT")
    return max([now, *free[:6]])


def blocks_per_sm(threads, registers, shared):
    by_registers = 65536 // (math.ceil(threads / 32) * math.ceil(registers / 8) * 256)
    return min(32, 2048 // threads, by_registers, SHARED // (shared + 1024))


@cache
def counted(path, name, launch):
    """Cycles of each pipe a warp, the path of the slowest warp, registers, and blocks on an SM."""
    if launch.turns > 4:  # from what two and four turns of its loops take: compilers unroll by two and four
        two, four = (counted(path, name, launch.part(k)) for k in (2, 4))
        pipes = {p: c + (four[0][p] - c) * (launch.turns - 2) / 2 for p, c in two[0].items()}
        return pipes, [*two[1], *four[1]], *two[2:]
    kernel = find(path, name)
    loads, stores = round(launch.per_thread * launch.read / 16), round(launch.per_thread * launch.write / 16)
    wants = {launch.load: launch.before + loads * launch.passes + launch.after, launch.store: stores}
    wants |= launch.marks | launch.once
    hot = walk(kernel.code, tuple(wants.items()))
    slow = walk(kernel.code, tuple((wants | launch.critical).items())) if launch.critical else hot
    pipes = {p: c * sum(bool(re.match(o, i.op)) for i in hot) for p, (c, o) in PIPES.items()}
    pipes["lsu"] += pipes.pop("wide")
    resident = blocks_per_sm(launch.threads, kernel.registers, kernel.shared + launch.shared)
    return pipes, [(slow, loads)], kernel.registers, resident


def bottlenecks(path, name, launch):
    """Microseconds of each bottleneck, and what was counted."""
    pipes, paths, registers, resident = counted(path, name, launch)
    cycles = [alone(p, launch.load, launch.before, count) for p, count in paths]
    cycles = cycles[0] + (cycles[-1] - cycles[0]) * (launch.turns - 2) / 2
    waves, warps = launch.blocks / (SMS * resident), math.ceil(launch.threads / 32)
    scale = math.ceil(launch.blocks / SMS) * warps / SCHEDULERS / GHZ / 1e3
    times = {"dram": launch.bytes / BYTES_PER_US}
    times["wait"] = (math.ceil(waves) if waves < 8 else waves) * cycles / GHZ / 1e3
    times |= {p: c * scale for p, c in pipes.items()}
    per_byte = pipes["issue"] * launch.blocks * launch.threads / launch.bytes if launch.bytes else 0.0
    latencies = cycles / DRAM
    return times, {"per_byte": per_byte, "registers": registers, "warps": resident * warps, "latencies": latencies}


def together(times) -> float:
    return sum(t**NORM for t in times.values()) ** (1 / NORM)
