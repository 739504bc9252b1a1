"""Freed memory stays with the process while it trains or scores an archive on a CPU.

By its defaults glibc hands the memory of each large tensor back to the kernel, which clears it
page by page when the next one asks: about ten thousand page faults a step of the reference model.
What the settings mean: mallopt(3).
"""

import contextlib
import ctypes
import sys
from collections.abc import Iterator

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1  # bytes at the top of the heap that are handed back


@contextlib.contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """Does nothing on a GPU, whose memory PyTorch keeps itself, or without glibc."""
    libc = ctypes.CDLL(None) if device.type == "cpu" and sys.platform == "linux" else None
    if not hasattr(libc, "mallopt"):
        yield
        return
    assert libc is not None
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        libc.mallopt(_M_MMAP_MAX, 65_536)  # the defaults
        libc.mallopt(_M_TRIM_THRESHOLD, 128 * 1024)
        libc.malloc_trim(0)
