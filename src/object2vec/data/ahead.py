"""What is made ahead: by a thread of its own, while what it made before is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Final, TypeVar

from object2vec import kernels

Item = TypeVar("Item")

#: Items that are handed over at a time, so that threads seldom wait for one another. The first come one by one.
MOST: Final = 16


def made_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, up to twice `MOST` of them made before they are asked for; what making them raises is raised."""

    def some(count: int) -> list[Item]:
        return list(islice(items, count))

    with ThreadPoolExecutor(1, "ahead", initializer=kernels.stay_alone) as maker:
        many = 1
        made = maker.submit(some, many)
        while given := made.result():
            many = min(2 * many, MOST)
            made = maker.submit(some, many)
            yield from given
