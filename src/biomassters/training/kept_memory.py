"""On a CPU, memory that one step frees stays with the process for the next step.

glibc hands large blocks back to the kernel as soon as they are freed. A step takes and frees
gigabytes of activations; got back as fresh pages, they cost a page fault for every 4 KiB.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# From glibc's malloc.h; mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
ALWAYS_KEPT = 2**31 - 1
# Where glibc's own adjustment ends on 64 bits; it can't be switched on again.
USUAL_MMAP_THRESHOLD, USUAL_TRIM_THRESHOLD = 32 * 2**20, 64 * 2**20


@contextmanager
def kept_memory(device: torch.device) -> Iterator[None]:
    """Within the block freed memory is kept; at its end what is free goes back.

    Does nothing on another device, or where the C library is not glibc.
    """
    library = ctypes.CDLL(None)
    if device.type != "cpu" or not hasattr(library, "malloc_trim"):
        yield
        return
    library.mallopt(M_MMAP_THRESHOLD, ALWAYS_KEPT)
    library.mallopt(M_TRIM_THRESHOLD, ALWAYS_KEPT)
    try:
        yield
    finally:
        library.mallopt(M_MMAP_THRESHOLD, USUAL_MMAP_THRESHOLD)
        library.mallopt(M_TRIM_THRESHOLD, USUAL_TRIM_THRESHOLD)
        library.malloc_trim(0)
