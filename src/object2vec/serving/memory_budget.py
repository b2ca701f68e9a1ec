"""A limit on the memory for request bodies. A request that does not fit is refused.

A body takes memory from its first byte until its answers are encoded: as bytes, as columns, and for a while, where its
form is an unusual one, as objects. What its answers take does not grow with it: they are made in parts, and long
replies are stored on the disk (`spool`) or sent in parts.
"""

from __future__ import annotations

import sys
from threading import Lock
from typing import Final, Self

from object2vec.errors import OverloadedError

#: Most bytes of memory for each byte of a body: for the body with its columns, and for its objects.
COLUMN_BYTES: Final = 5
OBJECT_BYTES: Final = 30
#: The longest body, in bytes, that is not counted: as many of them as may be under way take little.
MAX_UNCOUNTED_BYTES: Final = 2**16


class MemoryBudget:
    """Memory of `size` bytes."""

    def __init__(self, size: int = sys.maxsize) -> None:
        self.size = size
        self._left = size
        self._lock = Lock()

    def reserve(self, length: int = 0, times: int = COLUMN_BYTES) -> Reservation:
        """Reserve a multiple of the length of a body, until the reservation is released.

        Raises:
            OverloadedError: other requests have reserved the memory.
        """
        return Reservation(self).add(length, times)

    def take(self, size: int) -> bool:
        """Take bytes, or give them back if `size` is negative. Return False if too few are left."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True


class Reservation:
    """Memory that is reserved, also within a context."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._size = 0

    def add(self, length: int, times: int = COLUMN_BYTES) -> Self:
        """Reserve more, as `MemoryBudget.reserve` does."""
        if length > MAX_UNCOUNTED_BYTES:
            if not self._budget.take(times * length):
                raise OverloadedError(
                    f"no memory for {length} bytes besides those of requests in progress, send it again later"
                )
            self._size += times * length
        return self

    def release(self) -> None:
        """Give the memory back; a second call does nothing."""
        if self._size:
            size, self._size = self._size, 0
            self._budget.take(-size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
