"""Samples of a model, a chunk at a time, for a command that holds no more of them than it must."""

from collections.abc import Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from ..common import processes
from ..common.conditions import takes
from ..common.indices import as_chunk, share
from ..common.precision import weights_device


class Drawing:
    """The endless run `seed` of a model: sample i is what `model.sample([i], seed=seed, ...)` draws, whatever is drawn
    with it.

    label     of all samples; None: classes in turn, sample i being of class i mod classes
    settings  of model.sample, but for its label
    """

    def __init__(self, model, seed: int, label: int | None, settings: dict):
        self.model, self.seed, self.label, self.settings = model, seed, label, settings
        self.shape: tuple[int, ...] | None = model.shape
        self.classes: int = getattr(model, "classes", 0) or 0
        self.chunk = as_chunk(settings.get("chunk"), self.shape, weights_device(model))

    def labels(self, index: Tensor) -> Tensor | None:
        """(b,), of the samples `index`; None for a model without classes."""
        if not self.classes:
            return None
        return index % self.classes if self.label is None else torch.full_like(index, self.label)

    def pieces(self, index: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """(indices, x (b, *) float32 on the CPU) of the samples `index`, which are in order, chunk by chunk: of several
        processes each has its share of the chunks, side by side."""
        quiet = {"progress": False} if takes(self.model.sample, "progress") else {}  # there is one bar for all chunks
        rank, ranks = processes.world()
        chunks = torch.tensor_split(index, torch.nonzero((index // self.chunk).diff()).flatten() + 1)
        chunks = [chunks[i] for i in share(len(chunks) if len(index) else 0, 1, rank, ranks).tolist()]
        total = sum(map(len, chunks))
        with tqdm(total=total, desc="drawing", unit="sample", delay=1, disable=True if rank else None) as bar:
            for piece in chunks:
                label = self.labels(piece)
                told = {} if label is None else {"label": label}
                x = self.model.sample(piece, seed=self.seed, **told, **self.settings, **quiet)
                yield piece, x.to("cpu", torch.float32)
                bar.update(len(piece))
