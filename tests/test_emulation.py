"""CUDA on the host: each primitive does what it is defined to do, and what a driver or a GPU refuses is refused."""

import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent / "csrc"
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]


def run(source: str, folder: Path, *flags: str, arguments=()):
    """Compiles a program of tests/csrc against the emulation, without a CUDA toolkit, and runs it."""
    program = str(folder / source.split(".")[0])
    command = ["g++", "-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-DGENFAST_EMULATE", *flags]
    subprocess.run([*command, "-x", "c++", str(SOURCES / source), "-o", program], check=True)
    return subprocess.run([program, *arguments], env={"ASAN_OPTIONS": "detect_leaks=0"}, capture_output=True, text=True)


@pytest.mark.parametrize("flags", [[], SANITIZERS], ids=["plain", "sanitized"])
def test_primitives(tmp_path, flags):
    """Clusters and their memory, cooperative grids, teams, asynchronous copies, products of matrices."""
    done = run("primitives.cu", tmp_path, *flags)
    lines = done.stdout.splitlines()
    assert len(lines) == 7 and all(line.endswith(" ok") for line in lines), done.stdout + done.stderr


MEMORY = "a block with more shared memory than it may have"
WAITS = "threads that wait for what no other does"
BESIDE = "a block that writes beside its shared memory"
REFUSALS = [
    ("as it should be", 192, "ran"),
    ("no blocks", 0, "a grid without blocks"),
    ("too many in y", 0, "a grid of more blocks than a GPU takes"),
    ("too many in z", 0, "a grid of more blocks than a GPU takes"),
    ("too many threads", 0, "a block of more threads than a GPU takes"),
    ("too many threads in z", 0, "a block of more threads than a GPU takes"),
    ("no threads", 0, "a block without threads"),
    ("all threads", 2048, "ran"),
    *[
        ("shared memory, all", 1, "ran"),
        ("shared memory, more", 0, MEMORY),
        ("declared, all", 32, "ran"),
        ("declared, more", 0, MEMORY),
    ]
    * 4,
    ("cluster", 192, "ran"),
    ("cluster in two dimensions", 768, "ran"),
    ("cluster that does not divide", 0, "a cluster that does not divide its grid"),
    ("cluster without blocks", 0, "a cluster without blocks"),
    ("cluster too large", 0, "a cluster of more blocks than every GPU takes"),
    ("cluster on sm_80", 0, "a cluster on a device that has none"),
    ("no cluster on sm_80", 192, "ran"),
    ("not in shared memory", 0, "the address in another block of what is not in shared memory"),
    ("no such block", 0, "shared memory of a block that the cluster does not have"),
    ("a block that has ended", 0, "shared memory of a block that has ended"),
    ("cooperative", 128, "ran"),
    ("more than fit", 0, "a cooperative grid of more blocks than fit"),
    ("not cooperative", 0, "a barrier of the grid in a launch that is not cooperative"),
    ("team", 128, "ran"),
    ("team whose blocks need not be there", 0, WAITS),
    ("a barrier that some never reach", 0, WAITS),
    ("writes what it asked for", 0, "ran"),
    ("writes beyond what it asked for", 0, BESIDE),
    ("writes before a variable", 0, BESIDE),
    ("memory of a block is not that of the one before", 64, "ran"),
    ("copied and waited for", 32, "ran"),
    ("copied and not waited for", 0, "ran"),
    ("copied to nowhere", 31, "an asynchronous copy to what is not in shared memory"),
    ("copied askew", 0, "an asynchronous copy that is not aligned"),
    ("product by half a warp", 0, "a product of matrices by part of a warp"),
]


def test_what_a_driver_or_a_gpu_refuses_is_refused(tmp_path):
    done = run("refusals.cpp", tmp_path)
    assert done.stdout.splitlines() == [f"{name}: {ran} {answer}" for name, ran, answer in REFUSALS], done.stderr


def test_a_read_beside_shared_memory_is_seen_by_the_sanitizer(tmp_path):
    done = run("refusals.cpp", tmp_path, *SANITIZERS, arguments=["read"])
    assert done.returncode and "heap-buffer-overflow" in done.stderr and "READ of size 4" in done.stderr
