"""Measures rival implementations of one thing against each other, in one process, taking turns.

Turns (A B A B ...) spread whatever else the machine does over all of them, so that ratios within a run mean something
even where milliseconds do not.  No call finds its arguments in the cache, as a sampler's state is not after the network
has run: on a CPU successive calls get successive sets of them, together larger than it; a GPU's is flushed before each.
What a provider allocates is part of its time: see `keep_freed_memory`.
"""

import ctypes
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from genfast import testing

FLUSH = 256 << 20  # bytes that push everything else out of a GPU's cache


@dataclass(frozen=True)
class Bench:
    """One line of work and who does it.

    case, shape, dtype: its name, and the size and edge dtype of its data.  bytes_moved: the least that any
    implementation reads and writes.  args: keyword arguments of every provider.  providers: by name, genfast first.
    work: where it is not the traffic, how much of what: (12.5, "GFLOP"), (1024, "images").  notes: by provider, printed
    beside it.
    """

    case: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    bytes_moved: int
    args: dict
    providers: dict[str, Callable[..., object]]
    work: tuple[float, str] | None = None
    notes: dict[str, str] = field(default_factory=dict)

    def time(self, repeats: int) -> tuple[dict[str, list[float]], dict[str, Exception]]:
        """{provider: [p20, p50, p80]} in ms, and of the providers that cannot do it, why."""
        tensors = _tensors(self.args)
        cuda = any(t.is_cuda for t in tensors)
        sets = 1 if cuda else min(64, max(2, -(-2 * cache_bytes() // sum(t.nbytes for t in tensors))))
        rotation = [testing.to(self.args, _fresh) for _ in range(sets)]
        flushed = torch.empty(FLUSH if cuda else 0, dtype=torch.int8, device=tensors[0].device)
        clock = _cuda_clock if cuda else _cpu_clock
        turn, ends, failed = 0, {name: [] for name in self.providers}, {}
        for repeat in range(-3, repeats):  # the first three are for warming up
            for name, provider in self.providers.items():
                if name in failed:
                    continue
                flushed.zero_()  # meanwhile the host gets ahead of a GPU, which then does not wait for it
                begin = clock()
                try:
                    provider(**rotation[turn % sets])
                except Exception as error:
                    failed[name] = error
                end = clock()
                if repeat >= 0:
                    ends[name].append((begin, end))
                turn += 1
        if cuda:
            torch.cuda.synchronize()
        elapsed = _cuda_elapsed if cuda else _cpu_elapsed
        ends = {name: pairs for name, pairs in ends.items() if name not in failed}
        return {name: quantiles([elapsed(*pair) for pair in pairs]) for name, pairs in ends.items()}, failed


def keep_freed_memory() -> None:
    """Memory that a call frees waits for the next one, instead of going back to the system to be mapped anew.

    Left alone, glibc drifts from the second to the first as a process frees ever larger tensors, and eager code, which
    allocates at every operation, gets several times faster on the way.  Kept is what a process with a network comes to,
    and the kindest to eager code.  Does nothing where there is no glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4  # of malloc.h
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_max, 0)


def cache_bytes() -> int:
    """Of the processor's largest cache; 64 MiB where the system does not say."""
    sizes = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    return max((int(size.read_text().strip().rstrip("K")) << 10 for size in sizes), default=64 << 20)


def machine(device: torch.device) -> str:
    """What the figures were measured on, in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, driver {driver()}, CUDA {torch.version.cuda}"
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    model = models[0] if models else platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores, {cache_bytes() >> 20} MiB cache"


def driver() -> str:
    """The version of NVIDIA's driver."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    found = subprocess.run(command, capture_output=True, text=True) if shutil.which(command[0]) else None
    return found.stdout.split("\n")[0].strip() if found and not found.returncode else "unknown"


def _tensors(value) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    values = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ()
    return [tensor for v in values for tensor in _tensors(v)]


def _fresh(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def _cpu_clock() -> int:
    return time.perf_counter_ns()


def _cpu_elapsed(begin: int, end: int) -> float:
    return (end - begin) * 1e-6


def _cuda_clock() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _cuda_elapsed(begin: torch.cuda.Event, end: torch.cuda.Event) -> float:
    return begin.elapsed_time(end)


def quantiles(times: list[float]) -> list[float]:
    """[p20, p50, p80]."""
    p = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    return torch.tensor(times, dtype=torch.float64).quantile(p).tolist()
