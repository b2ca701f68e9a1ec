"""What is made ahead: by a thread of its own, while what it made before is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from object2vec.data.batches import Batch, Batches
from object2vec.ops import kernels as kernels_ops

Item = TypeVar("Item")

#: Items that are handed over at a time, so that threads seldom wait for one another. The first come one by one.
MAX_CHUNK_ITEMS: Final = 16


def prefetch_items(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the same items, computed in another thread.

    At most twice `MAX_CHUNK_ITEMS` are ready before the caller needs them. An error of the iterator is raised here.
    """

    def some(count: int) -> list[Item]:
        return list(islice(items, count))

    with ThreadPoolExecutor(1, "ahead", initializer=kernels_ops.stay_alone) as maker:
        many = 1
        made = maker.submit(some, many)
        while given := made.result():
            many = min(2 * many, MAX_CHUNK_ITEMS)
            made = maker.submit(some, many)
            yield from given


class EpochPrefetcher:
    """The batches of epochs, made ahead; the first ones of an epoch while the last ones before it are worked on."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._made: Iterator[Batch | None] = iter(())
        self._at: tuple[int, int] | None = None  # what is made next: a batch of an epoch

    def epoch(self, number: int, skip: int = 0) -> Iterator[Batch]:
        """Those of an epoch, as `Batches.epoch` gives them."""
        if self._at != (number, skip):
            self._made = prefetch_items(self._from(number, skip))
        self._at = None  # until all are worked on
        yield from iter(partial(next, self._made), None)
        self._at = number + 1, 0

    def _from(self, number: int, skip: int) -> Iterator[Batch | None]:
        """Those of this epoch and all later ones, None behind each."""
        while True:
            yield from self._batches.epoch(number, skip)
            yield None
            number, skip = number + 1, 0
