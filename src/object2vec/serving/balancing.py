"""Balancing of connections: workers of one listening socket get about as many each.

A worker that has more connections than another one leaves new ones to that one for a moment. Otherwise one worker can
accept all connections of clients that connect together and keep them open. Their requests would share one core.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from typing import Final

#: Numbers of workers that are told apart.
SLOTS: Final = 256
#: How long a worker leaves a connection to others, which may be busy; and between two looks, in seconds.
MAX_DEFER_SECONDS: Final = 0.05
POLL_SECONDS: Final = 0.0005


class ConnectionCounts:
    """The number of connections of each worker, in memory that processes share after a fork."""

    def __init__(self) -> None:
        self._counts = memoryview(mmap.mmap(-1, 4 * SLOTS)).cast("i")  # 0 for no worker, else one more than its number

    def set(self, worker: int, count: int) -> None:
        """Set the number of a worker."""
        self._counts[worker % SLOTS] = count + 1

    def remove(self, worker: int) -> None:
        """Forget a worker that has ended."""
        self._counts[worker % SLOTS] = 0

    def fewest(self) -> int:
        """Return the least number of connections of a worker; 0 without workers."""
        return min((count - 1 for count in self._counts if count), default=0)


class Balance:
    """Decides whether a worker accepts a connection now."""

    def __init__(self, counts: ConnectionCounts, clock: Callable[[], float] = time.monotonic) -> None:
        self._counts = counts
        self._clock = clock
        self._since = self._last = 0.0

    def defers(self, own: int) -> bool:
        """Return whether another worker shall accept a connection, which has fewer than `own`, and still has time."""
        if own <= self._counts.fewest():
            return False
        now = self._clock()
        if now - self._last > MAX_DEFER_SECONDS:  # another worker accepted the one before
            self._since = now
        self._last = now
        return now - self._since < MAX_DEFER_SECONDS
