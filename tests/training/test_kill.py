"""Runs that are killed go on as if they had not been."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

KILL = Path(__file__).parents[1] / "long" / "kill.py"


@pytest.mark.slow
def test_killed_three_times(tmp_path):
    """Of each family; kill.py without arguments does so twenty times."""
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else str(tmp_path)
    command = [sys.executable, KILL, "--n", "3", "--steps", "40", "--fork"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TMPDIR": folder})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("3 kills") == done.stdout.count(": the same bits") == 3


@pytest.mark.slow
def test_two_processes_killed(tmp_path):
    """Both, and then one of them, at which the other ends."""
    command = [sys.executable, KILL, "--n", "2", "--steps", "30", "--fork", "--processes", "2", "--families", "gan"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "2 kills" in done.stdout and ": the same bits" in done.stdout
