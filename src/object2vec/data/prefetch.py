"""Compute items in other threads, in order; prepare batches while the trainer uses earlier ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from object2vec.data.batches import Batch, Batches
from object2vec.ops import library

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Items per handover between threads. It grows from one, so that the first items arrive soon.
MAX_CHUNK_ITEMS: Final = 16


def map_in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Yield the function's result for each item, in order. At most `threads` more are computed at a time."""
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > threads:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


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
