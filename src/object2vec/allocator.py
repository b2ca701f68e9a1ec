"""How memory is asked of the system where that decides speed."""

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
    """A table of zeros, (rows, columns) float32 on the CPU.

    A row takes memory once it is written to. Where the system can, its pages are huge ones: single rows of a large
    table are then found without a second look-up in the page table.

    Raises:
        MemoryError: the system has no room for it.
    """
    size = 4 * rows * columns
    if not sys.platform.startswith("linux") or not size:
        return torch.zeros(rows, columns)
    try:
        buffer = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no {size / 1e9:.3g} GB for a table of {rows} rows and {columns} columns") from error
    with suppress(OSError):  # a system without them
        buffer.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(buffer, dtype=torch.float32).view(rows, columns)


def keep_freed() -> None:
    """Let this process keep memory that it freed instead of giving it back to the system.

    A training step asks for the same sizes as the one before, and memory fresh from the system has to be mapped and
    zeroed page by page. Nothing happens where malloc is not glibc's.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)  # as large as an int is
        mallopt(M_MMAP_MAX, 0)
