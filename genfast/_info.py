"""What is installed, which kernels are live, and why others are not."""

import os
import platform
import sys

import torch

from . import _extension
from ._version import __version__


class Info(dict):
    """A dict that prints as a table."""

    def __str__(self) -> str:
        width = max(map(len, self))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self.items())


def info() -> Info:
    """genfast, Python and torch versions; the instruction set in use; whether the CUDA kernels are live, or why not."""
    extension = _extension.extension
    build = extension.build_info()
    best, used = extension.best_isa(), extension.isa()
    forced = " (forced by GENFAST_ISA)" if os.environ.get("GENFAST_ISA") else ""
    return Info(
        genfast=__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        cpu_kernels=f"{used}{forced}" + (f", of {best} at best" if used != best else ""),
        cpu_threads=torch.get_num_threads(),
        cuda_kernels=_cuda(build),
        extension=extension.__file__,
        platform=f"{platform.system()} {platform.machine()}, Python at {sys.prefix}",
    )


def _cuda(build: dict) -> str:
    if build["emulated"]:
        return "emulated on the CPU (GENFAST_EMULATE=1, for tests)"
    if not build["cuda"]:
        return "not built: setup.py found no nvcc (or GENFAST_CUDA=0); install the CUDA toolkit and build again"
    if torch.version.cuda is None:
        return f"built for {build['cuda']}, not live: this torch has no CUDA"
    if not torch.cuda.is_available():
        return f"built for {build['cuda']}, not live: torch {torch.__version__} sees no GPU"
    major, minor = torch.cuda.get_device_capability()
    name = f"{torch.cuda.get_device_name()} (sm_{major}{minor})"
    if not _runs(build["cuda"], major, minor):
        return f"built for {build['cuda']}, not live: no kernels for sm_{major}{minor}, {name}"
    return f"live, built for {build['cuda']}, on {name}"


def _runs(built: str, major: int, minor: int) -> bool:
    """Whether a GPU runs what was built: machine code of its generation up to its own, or PTX of the newest."""
    numbers = [int(name.removeprefix("sm_")) for name in built.split()]
    return any(n // 10 == major and n % 10 <= minor for n in numbers) or 10 * major + minor >= max(numbers)
