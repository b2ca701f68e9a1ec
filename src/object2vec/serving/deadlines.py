"""Deadlines for what a client sends: a connection that is too slow is no longer read.

A read timeout bounds the silence between two bytes. It does not stop a client that sends one byte at a time.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Lock, Thread
from types import TracebackType
from typing import Final

#: Seconds that a client gets for any message, and the bytes per second that extend this time for a long one.
GRACE_SECONDS: Final = 60.0
MIN_BYTES_PER_SECOND: Final = 4096
#: Seconds between two looks at the messages in transfer.
CHECK_SECONDS: Final = 1.0


class Transfer:
    """A message that is being received. `received` are its bytes so far, `expired` whether its time was over."""

    def __init__(self, connection: socket.socket | None, deadlines: Deadlines) -> None:
        self.received = 0
        self.expired = False
        self.started = deadlines.clock()
        self._connection = connection
        self._deadlines = deadlines

    def __enter__(self) -> Transfer:
        if self._connection is not None:
            self._deadlines.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """Stop watching the transfer; it can be ended twice."""
        self._deadlines.discard(self)

    def stop_reading(self) -> None:
        """Make the thread that waits for bytes see the end of the stream; a reply can still be sent."""
        self.expired = True
        if self._connection is not None:
            with suppress(OSError):  # the client has closed it
                self._connection.shutdown(socket.SHUT_RD)


class Deadlines:
    """Watches the transfers of a process, in one thread that runs while there are any."""

    def __init__(
        self,
        grace_seconds: float = GRACE_SECONDS,
        check_seconds: float = CHECK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.grace_seconds = grace_seconds
        self.clock = clock
        self._check_seconds = check_seconds
        self._transfers: set[Transfer] = set()
        self._lock = Lock()
        self._thread: Thread | None = None

    def watch(self, connection: socket.socket | None) -> Transfer:
        """Return a context in which a message is received; without a connection, it has no deadline."""
        return Transfer(connection, self)

    def add(self, transfer: Transfer) -> None:
        with self._lock:
            self._transfers.add(transfer)
            if self._thread is None or not self._thread.is_alive():  # it ends in a fork
                self._thread = Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()

    def discard(self, transfer: Transfer) -> None:
        with self._lock:
            self._transfers.discard(transfer)

    def stop_overdue(self) -> None:
        """Stop reading from each client that is slower than its deadline allows."""
        now = self.clock()
        with self._lock:  # so that no connection is stopped after its transfer has ended
            for transfer in list(self._transfers):
                if now - transfer.started > self.grace_seconds + transfer.received / MIN_BYTES_PER_SECOND:
                    self._transfers.discard(transfer)
                    transfer.stop_reading()

    def _run(self) -> None:
        while True:
            time.sleep(self._check_seconds)
            self.stop_overdue()
            with self._lock:
                if not self._transfers:
                    self._thread = None
                    return


#: The deadlines of this process.
DEADLINES: Final = Deadlines()
