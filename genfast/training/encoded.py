"""What a model finds of each sample before anything random, and without a gradient: once for a whole run.

A model may have

    encoded(batch)  (B, *) float32, of each row a function of that row and of frozen weights: `loss` takes it in the
                    place of the batch's x, where its shape is not that of x
    encoder         the module with those weights

as a LatentDiffusion has, of which it is the mean and log-variance of q(z | x).
"""

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..common import processes
from ..common.eval_mode import evaluating
from ..common.files import CorruptCheckpoint, write_file
from ..common.indices import as_chunk, chunk_index, require_finite, share
from ..common.memory import free_memory, gigabytes
from ..common.precision import weights_device
from ..common.rows import replace, written
from ..common.sealed import read_sealed, sealed
from ..common.warn import warn_user
from ..data.dataset import Data
from ..data.source import CPU, PART, InMemory, Mapped, Source, column_bytes
from .step import Batch

FILE, NOTE = "latents.npy", "latents.json"


def encoded_once(
    model: object, data: Data, folder: Path | None, *, drawn: int | None = None, progress: bool = False
) -> Data:
    """The data with what the model finds of each sample in the place of x; the data themselves for a model that finds
    nothing, for a run that does not see all of them, with `drawn` samples, and where it cannot be kept: samples that
    change with every epoch, or, without a folder, too many for half of the free memory, which a UserWarning says. Of
    several processes each finds its share.

    It is kept in `folder`/latents.npy, of which latents.json says what it was found of: the data, by their fingerprint,
    and the weights. What is not that, or is damaged, is found anew; a UserWarning says so. Raises FloatingPointError
    for what is not finite, OSError for a file that cannot be written.
    """
    if not callable(getattr(model, "encoded", None)) or (drawn is not None and drawn < len(data)):
        return data
    if data.augment is not None or not data.source.keepable:
        _say("data may change from epoch to epoch: what the model's encoder finds is found again in every step")
        return data
    rows = Rows(model, data, progress)
    if rows.shape == data.shape:
        return data
    folder = processes.first(lambda: folder)
    if folder is not None:
        return _instead(data, _file(rows, folder))
    size, free = 4 * rows.ranks * len(data) * math.prod(rows.shape), processes.first(lambda: free_memory(CPU))
    if size > free / 2:
        _say(
            f"what the model's encoder finds of the data, {gigabytes(size)}, is found again in every step: memory has "
            f"room for {gigabytes(free)}; with a folder, out=, it is kept there"
        )
        return data
    parts = processes.gather(processes.together(lambda: [values for _, values in rows]))
    return _instead(data, InMemory(torch.from_numpy(np.concatenate(parts))))


@torch.no_grad()
def encoded_rows(model: object, batch: Batch) -> Batch:
    """The batch with what the model finds of its samples in the place of x, on the CPU; as it is for a model that finds
    nothing, or nothing of another shape."""
    if not callable(getattr(model, "encoded", None)):
        return batch
    x, device, parts = batch["x"], weights_device(model), []
    chunk = as_chunk(None, x.shape[1:], device)
    with evaluating(model.encoder), torch.autocast(device.type, enabled=False):
        for first in range(0, len(x), chunk):
            rows = {name: None if v is None else v[first : first + chunk].to(device) for name, v in batch.items()}
            parts.append(model.encoded(rows).to(CPU, torch.float32))
    found = torch.cat(parts)
    return batch if found.shape == x.shape else batch | {"x": found}


class Rows:
    """What the model finds of this process's share of the data, as (position of the first, values (n, *)): in chunks of
    one shape, the last filled up, so that nothing depends on how many processes there are."""

    def __init__(self, model: nn.Module, data: Data, progress: bool):
        self.model, self.data = model, data
        self.chunk = as_chunk(None, data.shape, weights_device(model))
        self.shape = tuple(self._found(torch.zeros(1, dtype=torch.int64, device=CPU)).shape[1:])
        self.rank, self.ranks = processes.world()
        self.shown = progress and self.rank == 0

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        chunks = share(len(self.data), self.chunk, self.rank, self.ranks).split(self.chunk)
        bar = tqdm(chunks, desc="encoding", unit="chunk", delay=1, leave=False, disable=None if self.shown else True)
        for index in bar:
            if not len(index):
                continue
            whole = chunk_index(int(index[0]), self.chunk).clamp(max=len(self.data) - 1)
            values = self._found(whole)[: len(index)]
            require_finite(values, index, ", as the model's encoder finds them")
            yield int(index[0]), values.numpy()

    def _found(self, index: Tensor) -> Tensor:
        return encoded_rows(self.model, self.data.rows(index))["x"]


def _instead(data: Data, x: Source) -> Data:
    return data.replace(x=x, levels=None, units=None, columns=None)


def _file(rows: Rows, folder: Path) -> Mapped:
    """The file in the folder, made if need be."""
    path, note = folder / FILE, folder / NOTE
    key, wrong = processes.first(lambda: _looked(rows, path, note))
    if wrong is None:
        return _mapped(path)
    if wrong:
        _say(f"{path} {wrong}: what the model's encoder finds of the data is found anew")

    def save(waiting: Path) -> None:
        replace(waiting, path)
        write_file(note, json.dumps(sealed(key | {"sha256": _sha256(path)}), indent=1).encode())

    with written(path, (len(rows.data), *rows.shape), rows) as waiting:
        processes.first(lambda: save(waiting))
    return _mapped(path)


def _mapped(path: Path) -> Mapped:
    return Mapped(np.load(path, mmap_mode="r"), "chw")


def _looked(rows: Rows, path: Path, note: Path) -> tuple[dict, str | None]:
    """What the rows are found of, and what is wrong with what is there: "" where nothing is, None if it is they."""
    weights = hashlib.sha256()
    for name, value in rows.model.encoder.state_dict().items():
        weights.update(name.encode())
        for part in column_bytes(value.reshape(-1)):
            weights.update(part)
    key = {"data": rows.data.fingerprint(), "weights": weights.hexdigest(), "shape": list(rows.shape)}
    if not path.exists():
        return key, ""
    try:
        found = read_sealed(note)
    except (CorruptCheckpoint, FileNotFoundError):
        return key, f"has no whole {NOTE} beside it"
    sha256 = found.pop("sha256", None)
    if found != key:
        return key, "is of other data or weights"
    return key, None if _sha256(path) == sha256 else "is damaged"


def _say(words: str) -> None:
    if processes.world()[0] == 0:
        warn_user(words)


def _sha256(path: Path) -> str:
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(PART):
            sha256.update(part)
    return sha256.hexdigest()
