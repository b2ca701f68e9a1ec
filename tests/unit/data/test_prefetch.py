"""What a thread makes ahead is what would have been made, and no more is made than is asked for soon."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import islice

import pytest

from object2vec.data.batches import Batch, Batches
from object2vec.data.prefetch import MAX_CHUNK_ITEMS, EpochPrefetcher, prefetch_items
from small import pairs_of


@pytest.mark.parametrize("count", [0, 1, 2, 3, MAX_CHUNK_ITEMS, 5 * MAX_CHUNK_ITEMS + 1])
def test_nothing_is_lost(count: int) -> None:
    """All items, in their order."""
    assert list(prefetch_items(iter(range(count)))) == list(range(count))


def test_another_thread_makes_them() -> None:
    def items() -> Iterator[int]:
        for _ in range(3):
            yield threading.get_ident()

    (maker,) = set(prefetch_items(items()))
    assert maker != threading.get_ident()


def test_an_error_is_raised_where_they_are_used() -> None:
    """After items that were handed over before; it is the maker's own."""

    def items() -> Iterator[int]:
        yield from range(10)
        raise OSError("the disk has gone")

    given = []
    with pytest.raises(OSError, match="the disk has gone"):
        given.extend(prefetch_items(items()))
    assert given == list(range(len(given)))


def test_who_asks_no_more_leaves_no_thread_behind() -> None:
    """An iterator that is left is at most what was ahead further than was asked for, and its thread has ended."""
    made = []

    def items() -> Iterator[int]:
        for item in range(10**9):
            made.append(item)
            yield item

    before = threading.active_count()
    used = 0
    for _ in prefetch_items(items()):
        used += 1
        if used == 100:
            break
    deadline = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before  # those of other tests may have ended
    assert len(made) <= used + 2 * MAX_CHUNK_ITEMS


def test_epochs_are_those_of_the_batches() -> None:
    """One after another, from where one goes on, in any order, and also where one before was left in its midst."""
    batches = Batches(pairs_of([([n % 9 + 1], [n % 5 + 1], 1.0) for n in range(90)]), size=7, negatives=1)
    ahead = EpochPrefetcher(batches)

    def labels(epoch: Iterator[Batch]) -> list[list[float]]:
        return [[*batch.index[1].tolist(), *batch.labels.tolist()] for batch in epoch]

    for number, skip in ((0, 0), (1, 0), (2, 0), (7, 3), (8, 0), (8, 0)):
        assert labels(ahead.epoch(number, skip)) == labels(batches.epoch(number, skip))
    for left, (number, skip) in enumerate([(9, 0), (10, 0), (10, 2)], start=1):
        given = ahead.epoch(number, skip)
        assert [*map(len, islice(given, left))] == [7] * left
    assert labels(ahead.epoch(10, 2)) == labels(batches.epoch(10, 2))


def test_the_first_batches_of_an_epoch_are_made_before_it_begins() -> None:
    """Once the epoch before was given."""
    begun = []

    class Watched(Batches):
        def epoch(self, number: int, skip: int = 0) -> Iterator[Batch]:
            begun.append(number)
            return super().epoch(number, skip)

    ahead = EpochPrefetcher(Watched(pairs_of([([1], [2], 1.0)] * 20), size=5))
    assert len(list(ahead.epoch(0))) == 4
    deadline = time.monotonic() + 60
    while 1 not in begun and time.monotonic() < deadline:
        time.sleep(0.01)
    assert 1 in begun
