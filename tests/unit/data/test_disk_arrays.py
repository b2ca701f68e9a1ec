"""Columns on disk: what the system is told of how they will be read."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from object2vec.data.disk_arrays import MIN_DISK_BYTES, AppendOnlyArray, advise_reads, empty
from object2vec.data.sequences import Sequences


class Mapping(mmap.mmap):
    """A mapping that writes down what the system is told of it."""

    told: list[tuple[int, ...]]

    def madvise(self, *arguments: int) -> None:
        self.told.append(arguments)
        super().madvise(*arguments)


@pytest.fixture
def mapped() -> tuple[np.ndarray[tuple[int], np.dtype[np.int32]], Mapping]:
    mapping = Mapping(-1, 40 * mmap.PAGESIZE)
    mapping.told = []
    return np.ndarray(10 * mmap.PAGESIZE, np.int32, mapping), mapping


def test_what_will_be_read_is_told_in_whole_pages(
    mapped: tuple[np.ndarray[tuple[int], np.dtype[np.int32]], Mapping],
) -> None:
    """The bytes told of begin at a page and hold all that was asked for."""
    array, mapping = mapped
    advise_reads(array, [(3000, 5000)])
    first = 12_000 // mmap.PAGESIZE * mmap.PAGESIZE
    assert mapping.told == [(mmap.MADV_RANDOM,), (mmap.MADV_WILLNEED, first, 20_000 - first)]


def test_runs_of_sequences_are_told_by_their_tokens(
    mapped: tuple[np.ndarray[tuple[int], np.dtype[np.int32]], Mapping],
) -> None:
    """A run is as many bytes as its sequences have tokens, the last one as many as are left."""
    array, mapping = mapped
    Sequences(array, np.arange(11) * mmap.PAGESIZE).advise_reads([(2, 6), (8, 10)])
    runs = [
        (mmap.MADV_WILLNEED, 4 * mmap.PAGESIZE * start, 4 * mmap.PAGESIZE * count) for start, count in ((2, 4), (8, 2))
    ]
    assert mapping.told == [(mmap.MADV_RANDOM,), *runs]


def test_of_what_is_in_memory_nothing_is_told() -> None:
    """An array that is not mapped can be expected too; a mapped one reads as it was written."""
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
