"""A program in several processes, as torchrun starts them."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def start(command: Sequence[object], ranks: int, **environment: str) -> list[subprocess.Popen]:
    """The words of `command`, after Python, once for each of so many ranks of one group; RANK in a word is the rank."""
    world = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    world |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    started = []
    for rank in map(str, range(ranks)):
        words = [str(word).replace("RANK", rank) for word in command]
        own = os.environ | world | {"RANK": rank, "LOCAL_RANK": rank} | environment
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([sys.executable, *words], env=own, **pipes))
    return started


def finished(started: list[subprocess.Popen], timeout: float = 120) -> list[subprocess.CompletedProcess]:
    """What they printed and exited with, in their order; none of them outlives the call."""
    found = []
    try:
        for process in started:
            out, error = process.communicate(timeout=timeout)
            found.append(subprocess.CompletedProcess(process.args, process.returncode, out, error))
    finally:
        for process in started:
            process.kill()
    return found


def answers(started: list[subprocess.Popen], timeout: float = 120) -> list[str]:
    """What they printed, in their order; AssertionError with its words for one that failed."""
    found = finished(started, timeout)
    for process in found:
        assert process.returncode == 0, process.stderr
    return [process.stdout for process in found]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
