"""Prefetching: the same items, and not too many of them in advance."""

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
def test_all_items_are_yielded_in_order(count: int) -> None:
    """Any number of items."""
    assert list(prefetch_items(iter(range(count)))) == list(range(count))


def test_items_are_computed_in_another_thread() -> None:
    def items() -> Iterator[int]:
        for _ in range(3):
            yield threading.get_ident()

    (maker,) = set(prefetch_items(items()))
    assert maker != threading.get_ident()


def test_error_of_the_iterator_reaches_the_caller() -> None:
    """The same exception comes after the items before it."""

    def items() -> Iterator[int]:
        yield from range(10)
        raise OSError("the disk has gone")

    given = []
    with pytest.raises(OSError, match="the disk has gone"):
        given.extend(prefetch_items(items()))
    assert given == list(range(len(given)))


def test_abandoned_iterator_ends_its_thread() -> None:
    """At most the prefetched items are computed in excess."""
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


def test_prefetched_epochs_equal_those_of_batches() -> None:
    """In any order, from any batch, and also after an epoch that was left early."""
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


def test_next_epoch_is_prefetched() -> None:
    """It starts when the current epoch has been yielded."""
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
