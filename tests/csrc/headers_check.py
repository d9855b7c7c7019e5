"""Compiles the glue against the headers of the oldest torch that is promised, without that torch: `make cuda-check`.

The wheel is downloaded once, 530 MB; its headers, 39 MB, stay in $XDG_CACHE_HOME/genfast (~/.cache/genfast). Where the
download fails the check says so and is left out, but with CI=true that is a failure.
"""

import os
import shlex
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cuda_check import ROOT, compile_file, load_setup

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genfast"
TOOLKIT = {"architectures": (80,)}  # all that the glue is told of a toolkit: it needs none to be checked


def oldest(setup) -> str:
    """The version that the binary is built for, as PyPI has it."""
    packed = int(setup.TORCH_TARGET.removesuffix("ULL"), 16)
    return f"{packed >> 56}.{packed >> 48 & 0xFF}.0"


def headers(version: str) -> Path:
    """The folder `torch` with the headers of a version, made if it is not there."""
    kept = CACHE / f"torch-{version}"
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        print(f"headers-check: downloading torch {version} once, for its headers", flush=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            command = [
                sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
                "--python-version=3.11", "--platform=manylinux_2_28_x86_64", f"torch=={version}", "--dest", folder,
            ]  # fmt: skip
            subprocess.run(command, check=True)
            (wheel,) = Path(folder).glob("torch-*.whl")
            with zipfile.ZipFile(wheel) as files:
                names = [name for name in files.namelist() if name.startswith("torch/include/")]
                files.extractall(Path(folder) / "headers", names)
            os.replace(Path(folder) / "headers", kept)
    return kept / "torch"


def main() -> int:
    setup = load_setup()
    version = oldest(setup)
    try:
        torch = headers(version)
    except subprocess.CalledProcessError:
        print(f"headers-check: torch {version} could not be downloaded; its headers were not tried")
        return int(os.environ.get("CI") == "true")
    glue = sorted((ROOT / "csrc" / "bind").glob("*.cpp"))

    def check(source: Path) -> None:
        flags = f"{setup.cxx_flags()} {setup.bind_flags(TOOLKIT, torch)} -Werror -fsyntax-only"
        compile_file([setup.compiler(), *shlex.split(flags), str(source)], source)

    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count()))) as pool:
        list(pool.map(check, glue))
    print(f"headers-check: {len(glue)} glue files compile against torch {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
