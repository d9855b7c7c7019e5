"""What is installed, which kernels are live, and why others are not."""

import os
import platform
import sys
from collections.abc import Callable

import torch

from . import _extension
from ._version import __version__


class Info(dict):
    """A dict that prints as a table."""

    def __str__(self) -> str:
        width = max(map(len, self))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self.items())


def info() -> Info:
    """genfast, Python and torch versions; the instruction set in use; whether the CUDA kernels are live, or why not;
    torch's global switches of speed and precision, which genfast reads here and sets nowhere."""
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
        matmul_precision=_switch(torch.get_float32_matmul_precision),
        matmul_tf32=_switch(lambda: torch.backends.cuda.matmul.allow_tf32),
        cudnn_tf32=_switch(lambda: torch.backends.cudnn.allow_tf32),
        cudnn_benchmark=_switch(lambda: torch.backends.cudnn.benchmark),
        extension=extension.__file__,
        platform=f"{platform.system()} {platform.machine()}, Python at {sys.prefix}",
    )


def _switch(read: Callable[[], bool | str]) -> bool | str:
    """What a global switch of torch says, or that torch does not know: its older names cannot say all that newer ones,
    `fp32_precision`, can set."""
    try:
        return read()
    except RuntimeError:
        return "not one word: set by fp32_precision"


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
