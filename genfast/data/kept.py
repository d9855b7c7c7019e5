"""Samples that stay where they are needed, once they have been read."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..common.memory import free_memory
from .source import Source

SHARE = 4  # of the free memory of a device one part in so many is for data


class Kept(Source):
    """The samples of a source, each of which is read once and then is on the device, as it was stored: images of 8 bits
    in uint8. left: how many have not been read yet."""

    in_memory = True

    def __init__(self, source: Source, device: torch.device):
        self.source, self.device, self.left = source, device, len(source)
        self.shape, self.levels, self.dtype = source.shape, source.levels, source.dtype
        self.x = torch.empty(len(source), *source.shape, dtype=source.dtype, device=device)
        self.there = np.zeros(len(source), bool)  # on the host, which knows the order of the samples

    def __len__(self) -> int:
        return len(self.source)

    def stored(self, index: Tensor) -> Tensor:
        if self.left:
            missing = index[torch.from_numpy(~self.there[index.numpy()])].unique()
            if len(missing):
                self.put(missing, self.source.stored(missing))
        return self.x[index.to(self.device)]

    def put(self, index: Tensor, rows: Tensor) -> None:
        """Takes the samples `index` as the source stores them."""
        self.x[index.to(self.device)] = rows.to(self.device)
        self.there[index.numpy()] = True
        self.left = len(self) - int(self.there.sum())

    def identity(self) -> Iterator[bytes]:
        return self.source.identity()


def near(source: Source, device: torch.device, sharing: int = 1) -> Source:
    """The source, its samples kept on the device where that saves something and all of them fit a quarter of the memory
    that is free there, of which so many processes have a share each. What lies elsewhere, or must be decoded, is kept;
    what may answer differently is not."""
    saves = source.decoded or source.device != device
    if not (saves and source.keepable):
        return source
    size = len(source) * math.prod(source.shape) * source.dtype.itemsize
    return Kept(source, device) if size <= free_memory(device) // (SHARE * sharing) else source
