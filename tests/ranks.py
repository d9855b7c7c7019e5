"""Several processes that run one program, as torchrun starts them."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def start(program: str, rank: int, ranks: int, port: int, *arguments: object) -> subprocess.Popen:
    """Process number `rank`; `sys.argv[1:]` are the arguments."""
    environment = os.environ | {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }  # fmt: skip
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def outputs(processes: list[subprocess.Popen]) -> list[str]:
    """What each has printed; an error where one failed."""
    answers = []
    try:
        for process in processes:
            out, error = process.communicate(timeout=240)
            assert process.returncode == 0, error
            answers.append(out)
    finally:
        for process in processes:
            process.kill()
    return answers


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
