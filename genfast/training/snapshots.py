"""Snapshots of averages: a file each, whole or not there, that knows whether it is damaged."""

import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from ..common.files import CorruptCheckpoint, made_folder, read_tensors, write_file

NAME = re.compile(r"(\d{8,})-(0\.\d+|\d+(?:\.\d+)?e-\d+)\.safetensors")


class Snapshot(NamedTuple):
    """When it was made, in updates, and the length of the average."""

    updates: int
    length: float

    @property
    def name(self) -> str:
        return f"{self.updates:08d}-{self.length!r}.safetensors"


def snapshots_in(folder: Path) -> dict[Snapshot, Path]:
    """The file of each snapshot, in their order."""
    files = [(NAME.fullmatch(file.name), file) for file in folder.glob("*.safetensors")]
    return dict(sorted((Snapshot(int(match[1]), float(match[2])), file) for match, file in files if match))


def write_snapshot(folder: Path, snapshot: Snapshot, tensors: dict[str, Tensor]) -> None:
    """Writes it in place of one that is there; removes later ones, and what a killed process left."""
    made_folder("folder", folder)
    stale = [file for other, file in snapshots_in(folder).items() if other.updates > snapshot.updates]
    for file in (*stale, *folder.glob(".*.safetensors.*.tmp")):
        file.unlink(missing_ok=True)
    dense = torch.contiguous_format  # which safetensors wants, in memory of its own
    tensors = {name: value.detach().to("cpu", copy=True, memory_format=dense) for name, value in tensors.items()}
    content = safetensors.torch.save(tensors, metadata={"sha256": _digest(snapshot, tensors)})
    write_file(folder / snapshot.name, content)


def read_snapshot(file: Path, snapshot: Snapshot) -> dict[str, Tensor]:
    """Its tensors, on the CPU. Raises CorruptCheckpoint, which names the file, unless they are as they were written."""
    try:
        content = file.read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        tensors = read_tensors(content)
        sound = header["__metadata__"]["sha256"] == _digest(snapshot, tensors)
    except Exception as error:  # of a damaged file anything may be wrong
        raise CorruptCheckpoint(f"{file} is damaged: {error!r}") from error
    if not sound:
        raise CorruptCheckpoint(f"{file} is damaged: its content does not match its own sha256")
    return tensors


def _digest(snapshot: Snapshot, tensors: dict[str, Tensor]) -> str:
    """sha256 of what the file is, and of its tensors with their names."""
    kinds = {name: [str(value.dtype), list(value.shape)] for name, value in sorted(tensors.items())}
    digest = hashlib.sha256(json.dumps([*snapshot, kinds]).encode())
    for _, value in sorted(tensors.items()):
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
