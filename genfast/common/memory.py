"""How much memory there is left."""

import os
from pathlib import Path

import torch

MEMINFO, GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")  # of Linux; of a container


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the device: of a GPU as its driver counts them, else of the machine, or of the container
    (cgroup 2) if that has less; what files are cached in counts as free."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        free = 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):  # not Linux
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return min(free, _left_in_group(free))


def require_room(name: str, size: int, device: torch.device) -> None:
    """ValueError unless so many bytes are free on the device."""
    free = free_memory(device)
    if size > free:
        raise ValueError(
            f"{name} must fit into the memory to be there all at once; got {gigabytes(size)}, of which "
            f"{gigabytes(free)} are free"
        )


def gigabytes(size: int) -> str:
    """So many bytes in words."""
    return f"{size / 1e9:.3g} GB"


def _left_in_group(free: int) -> int:
    try:
        most, used = ((GROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return free if most == "max" else max(0, int(most) - int(used))
    except (OSError, ValueError):  # no container, or another kind
        return free
