"""All samples of a source, a chunk at a time: nothing here holds what a model draws."""

from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from ..common import processes
from ..common.indices import share
from .sources import Source

CHUNK = 64  # samples a call of model and extractor, always: their rounding may depend on it


def stream(
    source: Source, function: Callable[[Tensor], Tensor], *, device: torch.device, what: str, progress: bool
) -> Tensor:
    """f(x) of all samples, (n, D), on `device`, a chunk at a time, each process its share."""
    rank, ranks = processes.world()
    chunks = [index for index in share(source.n, CHUNK, rank, ranks).split(CHUNK) if len(index)]
    bar = tqdm(chunks, desc=what, unit="chunk", delay=1, leave=False, disable=None if progress else True)
    parts = processes.together(lambda: [function(source.draw(index).to(device)).cpu() for index in bar])
    return torch.cat(processes.gather(parts)).to(device)
