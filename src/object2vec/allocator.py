"""Allocate memory from the system where this decides speed."""

from __future__ import annotations

import ctypes
import mmap
import sys
from contextlib import suppress
from typing import Final

import torch
from torch import Tensor

#: Names of glibc's <malloc.h>.
M_TRIM_THRESHOLD: Final = -1
M_MMAP_MAX: Final = -4


def zeros(rows: int, columns: int) -> Tensor:
    """Return a table of zeros, (rows, columns) float32 on the CPU.

    A page takes memory when it is first written. Pages are huge where the system has them: reading single rows of a
    large table then causes fewer misses in the TLB.

    Raises:
        MemoryError: the system has not enough memory.
    """
    size = 4 * rows * columns
    if not sys.platform.startswith("linux") or not size:
        return torch.zeros(rows, columns)
    try:
        buffer = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no {size / 1e9:.3g} GB for a table of {rows} rows and {columns} columns") from error
    with suppress(OSError):  # no huge pages on this system
        buffer.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(buffer, dtype=torch.float32).view(rows, columns)


def keep_freed() -> None:
    """Keep freed memory in this process instead of returning it to the system.

    Each training step allocates the same sizes, and the system must map and zero each new page. There is no effect
    without glibc's malloc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)  # the largest int
        mallopt(M_MMAP_MAX, 0)
