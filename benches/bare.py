"""A machine without .venv and without internet: torch and nvcc are its own, what else is missing lies in a folder of
wheels, GENFAST_WHEELS, which `make wheels` fills elsewhere. They are unpacked into build/site, and the extension is
built in place."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "build" / "site"


def environment() -> dict[str, str]:
    """The environment of whatever runs this checkout: with its genfast and, on a bare machine, what was unpacked."""
    path = [str(ROOT), str(SITE) * ("GENFAST_WHEELS" in os.environ), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONUNBUFFERED": "1"}


def prepare(wheels: str) -> None:
    """Unpacks the wheels and builds, which is quick where it has been done before."""
    files = sorted(Path(wheels).glob("*.whl"))
    if not files:
        raise SystemExit(f"GENFAST_WHEELS must be a folder with wheels, of `make wheels`; got {wheels}")
    names, done = "\n".join(file.name for file in files), SITE / "wheels.txt"
    if not done.exists() or done.read_text() != names:
        shutil.rmtree(SITE, ignore_errors=True)
        options = ["--quiet", "--no-index", "--no-deps", "--no-cache-dir", "--target", str(SITE)]
        subprocess.run([sys.executable, "-m", "pip", "install", *options, *map(str, files)], check=True)
        SITE.mkdir(parents=True, exist_ok=True)
        done.write_text(names)
    # Of several compilers the system's: one that brings a libstdc++ of its own makes two in a process.
    hints = {"CXX": "/usr/bin/g++"} if Path("/usr/bin/g++").exists() else {}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=ROOT, env=hints | {"NVCC_APPEND_FLAGS": "--threads 0"} | environment(), check=True)
