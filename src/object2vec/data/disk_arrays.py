"""Arrays in temporary files, mapped into memory, so that data may be larger than memory."""

from __future__ import annotations

import errno
import mmap
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from object2vec.errors import AlgorithmError

#: Arrays of at least this many bytes are stored on disk.
MIN_DISK_BYTES: Final = 2**25


def empty(length: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return an uninitialized array (length,); a large one is stored in an unnamed temporary file."""
    size = length * np.dtype(dtype).itemsize
    if size < MIN_DISK_BYTES:
        return np.empty(length, dtype)
    with _explain_disk_errors(), tempfile.TemporaryFile(prefix="object2vec-") as file:
        if sys.platform == "linux":  # on a full disk, writing to an unallocated page would kill the process
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        return np.asarray(np.memmap(file, dtype, "r+"))


@contextmanager
def _explain_disk_errors() -> Iterator[None]:
    """Raise errors of the temporary folder as errors that name it.

    Raises:
        AlgorithmError: the folder cannot be written, or is full.
        MemoryError: a file cannot be mapped.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError("no memory is left to map a file into") from error
        folder = tempfile.tempdir or "the temporary folder"
        what = "data and the best weights are stored there during training, set TMPDIR to use another folder"
        raise AlgorithmError(f"{folder}: {error.strerror or error}; {what}") from error


def advise_reads(array: npt.NDArray[Any], runs: Iterable[tuple[int, int]]) -> None:
    """Advise the system that only these runs (start, stop) of a mapped array will be read soon.

    The system then reads them ahead. For an array in memory, do nothing.
    """
    base = array.base.base if isinstance(array.base, np.memmap) else array.base
    if not isinstance(base, mmap.mmap):
        return
    base.madvise(mmap.MADV_RANDOM)
    for start, stop in runs:
        first = start * array.itemsize // mmap.PAGESIZE * mmap.PAGESIZE
        if start < stop:
            base.madvise(mmap.MADV_WILLNEED, first, stop * array.itemsize - first)


class AppendOnlyArray:
    """An array that grows by appending, in an unnamed temporary file.

    The system's page cache holds the pages in use, and frees them when memory runs short.
    """

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        with _explain_disk_errors():
            self._file = tempfile.TemporaryFile(prefix="object2vec-")  # noqa: SIM115 -- closed by close
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, part: npt.NDArray[Any]) -> None:
        """Append an array."""
        with _explain_disk_errors():
            self._file.write(np.ascontiguousarray(part, self.dtype).data)
        self._length += len(part)

    def as_array(self) -> npt.NDArray[Any]:
        """Return all values, (length,), read-only; they stay valid after `close`."""
        with _explain_disk_errors():
            self._file.flush()
            return np.memmap(self._file, self.dtype, "r") if self._length else np.empty(0, self.dtype)

    def close(self) -> None:
        with suppress(OSError):  # unwritten data is no longer needed
            self._file.close()
