"""What the kernel is told of the pages of a memory map."""

import contextlib
import mmap

import numpy as np
from torch import Tensor


class Pages:
    """Rows of a memory map are read in any order, so of each the kernel reads as much as is asked for, but of all of
    them at once: by itself it reads, for each row that is missing, as much around it as a disk is told to (8 MB, say),
    and then waits. Where a map cannot be told so, nothing is."""

    def __init__(self, x: np.memmap):
        self.map, self.step = getattr(x, "_mmap", None), x.strides[0]
        self.length = x[0].nbytes
        if self.map is None or not hasattr(mmap, "MADV_WILLNEED") or self.step < self.length:
            self.map = None
            return
        self.start = x.ctypes.data - np.frombuffer(self.map, np.uint8).ctypes.data
        self._tell(mmap.MADV_RANDOM)

    def want(self, index: Tensor) -> None:
        """These rows are read next."""
        if self.map is None:
            return
        for first in (self.start + self.step * index).tolist():
            begin = first // mmap.PAGESIZE * mmap.PAGESIZE
            self._tell(mmap.MADV_WILLNEED, begin, first + self.length - begin)

    def _tell(self, *advice: int) -> None:
        with contextlib.suppress(OSError):  # it is no more than advice
            self.map.madvise(*advice)
