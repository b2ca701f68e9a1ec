"""Disk arrays: advice to the system about future reads."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from object2vec.data.disk_arrays import MIN_DISK_BYTES, AppendOnlyArray, advise_reads, empty
from object2vec.data.sequences import Sequences


class Mapping(mmap.mmap):
    """A mapping that records calls of madvise."""

    calls: list[tuple[int, ...]]

    def madvise(self, *arguments: int) -> None:
        self.calls.append(arguments)
        super().madvise(*arguments)


@pytest.fixture
def mapped() -> tuple[np.ndarray[tuple[int], np.dtype[np.int32]], Mapping]:
    mapping = Mapping(-1, 40 * mmap.PAGESIZE)
    mapping.calls = []
    return np.ndarray(10 * mmap.PAGESIZE, np.int32, mapping), mapping


def test_advised_bytes_are_page_aligned(
    mapped: tuple[np.ndarray[tuple[int], np.dtype[np.int32]], Mapping],
) -> None:
    """The advised bytes start at a page and include the whole range."""
    array, mapping = mapped
    advise_reads(array, [(3000, 5000)])
    first = 12_000 // mmap.PAGESIZE * mmap.PAGESIZE
    assert mapping.calls == [(mmap.MADV_RANDOM,), (mmap.MADV_WILLNEED, first, 20_000 - first)]


def test_runs_of_sequences_advise_their_tokens(
    mapped: tuple[np.ndarray[tuple[int], np.dtype[np.int32]], Mapping],
) -> None:
    """A run covers the tokens of its sequences; the last one ends with the array."""
    array, mapping = mapped
    Sequences(array, np.arange(11) * mmap.PAGESIZE).advise_reads([(2, 6), (8, 10)])
    runs = [
        (mmap.MADV_WILLNEED, 4 * mmap.PAGESIZE * start, 4 * mmap.PAGESIZE * count) for start, count in ((2, 4), (8, 2))
    ]
    assert mapping.calls == [(mmap.MADV_RANDOM,), *runs]


def test_advice_for_arrays_in_memory_does_nothing() -> None:
    """Arrays that are not mapped are accepted too; mapped arrays keep their values."""
    array = np.arange(10, dtype=np.int32)
    advise_reads(array, [(2, 5)])
    column = AppendOnlyArray(np.int32)
    column.append(array)
    column.append(array)
    mapped = column.as_array()
    column.close()
    advise_reads(mapped, [(2, 15), (3, 3)])
    large = empty(MIN_DISK_BYTES // 4, np.int32)
    large[:] = 7
    advise_reads(large, [(0, 5), (len(large) - 5, len(large))])
    assert (large == 7).all()
    assert mapped.tolist() == [*range(10), *range(10)]
