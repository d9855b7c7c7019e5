"""Free memory is what the machine says, or the container if that has less."""

import pytest
import torch

from genfast.common import memory

CPU = torch.device("cpu")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Writes what a machine, and a container, say."""
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUP", tmp_path)

    def says(**files):
        for name, words in files.items():
            (tmp_path / name.replace("_", ".")).write_text(words)

    return says


def test_free_memory(machine):
    assert memory.free_memory(CPU) > 2**20  # of a machine that says nothing
    machine(meminfo="MemTotal: 9 kB\nMemAvailable:      3000 kB\n")
    assert memory.free_memory(CPU) == 3000 * 1024
    machine(memory_max="max\n", memory_current="1\n")
    assert memory.free_memory(CPU) == 3000 * 1024
    machine(memory_max="2000000\n", memory_current="500000\n")
    assert memory.free_memory(CPU) == 1_500_000


def test_what_has_no_room_is_refused_with_its_size(machine):
    machine(meminfo="MemAvailable: 1000000 kB\n")
    memory.require_room("x", 10**9, CPU)
    with pytest.raises(ValueError, match=r"x must fit into the memory .*; got 20 GB, of which 1.02 GB are free"):
        memory.require_room("x", 20 * 10**9, CPU)
