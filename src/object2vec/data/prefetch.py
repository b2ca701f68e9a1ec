"""Prepare batches in another thread while the trainer uses earlier ones."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from object2vec.data.batches import Batch, Batches
from object2vec.ops import library

Item = TypeVar("Item")

#: Items per handover between threads. It grows from one, so that the first items arrive soon.
MAX_CHUNK_ITEMS: Final = 16


def prefetch_items(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the same items, computed in another thread.

    At most twice `MAX_CHUNK_ITEMS` are ready before the caller needs them. An error of the iterator is raised here.
    """

    def next_chunk(size: int) -> list[Item]:
        return list(islice(items, size))

    with ThreadPoolExecutor(1, "prefetch", initializer=library.use_one_thread) as executor:
        size = 1
        pending = executor.submit(next_chunk, size)
        while chunk := pending.result():
            size = min(2 * size, MAX_CHUNK_ITEMS)
            pending = executor.submit(next_chunk, size)
            yield from chunk


class EpochPrefetcher:
    """Prefetches the batches of consecutive epochs, across the end of an epoch."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._prefetched: Iterator[Batch | None] = iter(())
        self._position: tuple[int, int] | None = None  # the epoch and batch that comes next

    def epoch(self, number: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, the same as `Batches.epoch`."""
        if self._position != (number, skip):
            self._prefetched = prefetch_items(self._batches_from(number, skip))
        self._position = None  # unknown if the caller leaves the epoch early
        yield from iter(partial(next, self._prefetched), None)
        self._position = number + 1, 0

    def _batches_from(self, number: int, skip: int) -> Iterator[Batch | None]:
        """Yield the batches of this epoch and all later ones, and None after each epoch."""
        while True:
            yield from self._batches.epoch(number, skip)
            yield None
            number, skip = number + 1, 0
