"""A limit on the memory for request bodies. A request that does not fit is refused.

A body takes memory from its first byte until its answers are encoded: as bytes, as columns, and for a while, where its
form is an unusual one, as objects. What its answers take does not grow with it: they are made in parts, and long
replies are stored on the disk (`spool`) or sent in parts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

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

    @contextmanager
    def reserve(self, length: int, times: int = COLUMN_BYTES) -> Iterator[None]:
        """Reserve so many times the length of a body within the context.

        Raises:
            OverloadedError: other requests have reserved the memory.
        """
        size = times * length if length > MAX_UNCOUNTED_BYTES else 0
        with self._lock:
            if size > self._left:
                raise OverloadedError(
                    f"no memory for {length} bytes besides those of requests in progress, send it again later"
                )
            self._left -= size
        try:
            yield
        finally:
            with self._lock:
                self._left += size
