"""Columns that grow on disk and are mapped into memory, so that data may be larger than memory."""

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

#: Bytes from which on an array lies on disk.
MIN_DISK_BYTES: Final = 2**25


def empty(length: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array that is to be filled, (length,); a large one lies in a temporary file without a name."""
    size = length * np.dtype(dtype).itemsize
    if size < MIN_DISK_BYTES:
        return np.empty(length, dtype)
    with _explain_disk_errors(), tempfile.TemporaryFile(prefix="object2vec-") as file:
        if sys.platform == "linux":  # on a full disk, a page that is not there yet would kill the process
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        return np.asarray(np.memmap(file, dtype, "r+"))


@contextmanager
def _explain_disk_errors() -> Iterator[None]:
    """Within, what the system says of the folder for temporary files becomes our sentence.

    Raises:
        AlgorithmError: it cannot be written, or is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError("no memory is left to map a file into") from error
        folder = tempfile.tempdir or "the temporary folder"
        what = "where data and the best weights lie during training; TMPDIR names another folder"
        raise AlgorithmError(f"{folder}: {error.strerror or error}, {what}") from error


def advise_reads(array: npt.NDArray[Any], runs: Iterable[tuple[int, int]]) -> None:
    """Tell the system that of a mapped array these runs, (start, stop) each, will be read soon and nothing else will.

    It reads them at once then. Of an array in memory there is nothing to tell.
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
    """A column of numbers that are appended part by part, in a temporary file without a name.

    What is in use of it lies in the system's page cache, which gives memory back when it runs short.
    """

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        with _explain_disk_errors():
            self._file = tempfile.TemporaryFile(prefix="object2vec-")  # noqa: SIM115 -- closed by close
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, part: npt.NDArray[Any]) -> None:
        """Put a part at the end."""
        with _explain_disk_errors():
            self._file.write(np.ascontiguousarray(part, self.dtype).data)
        self._length += len(part)

    def as_array(self) -> npt.NDArray[Any]:
        """The whole column, (length,), read-only; it stays when the column is closed."""
        with _explain_disk_errors():
            self._file.flush()
            return np.memmap(self._file, self.dtype, "r") if self._length else np.empty(0, self.dtype)

    def close(self) -> None:
        with suppress(OSError):  # what is still to be written then is wanted by nobody
            self._file.close()
