"""How this process gives memory back: not at all."""

import contextlib
import ctypes
import os

TRIM_THRESHOLD, MMAP_THRESHOLD, LARGEST = -1, -3, 2**31 - 1  # of glibc's mallopt: malloc.h


def keep_freed_memory() -> None:
    """Lets glibc keep what is freed for what comes next. As it is, a tensor of 128 KiB or more may be handed back to
    the kernel as soon as it is freed, and each page of the next one is cleared again when it is written to.
    GENFAST_MALLOC=0 leaves glibc as it is; another C library is left anyway."""
    if os.environ.get("GENFAST_MALLOC") == "0":
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for threshold in (MMAP_THRESHOLD, TRIM_THRESHOLD):
            mallopt(threshold, LARGEST)
