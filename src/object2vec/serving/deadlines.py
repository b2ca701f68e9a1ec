"""Deadlines for what a client sends: a connection that is too slow is no longer read.

An idle timeout bounds the silence between two bytes. It does not stop a client that sends one byte at a time.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import Final

#: Seconds that a client gets for any message, and the bytes per second that extend this time for a long one.
GRACE_SECONDS: Final = 60.0
MIN_BYTES_PER_SECOND: Final = 4096
#: Seconds without a byte from a client before the server gives up.
IDLE_SECONDS: Final = 60
#: The same while a body is discarded.
DRAIN_IDLE_SECONDS: Final = 1
#: Seconds between two looks at the messages in transfer.
CHECK_SECONDS: Final = 1.0


@dataclass(slots=True, eq=False)
class Transfer:
    """A message that is being received. `received` are its bytes so far, `expired` whether its time was over."""

    deadlines: Deadlines
    started: float
    received: int = 0
    expired: bool = False

    def __enter__(self) -> Transfer:
        return self

    def __exit__(self, *_: object) -> None:
        self.deadlines.discard(self)


@dataclass(slots=True, kw_only=True)
class Deadlines:
    """Watches the transfers of a process, in one thread that runs while there are any."""

    grace_seconds: float = GRACE_SECONDS
    check_seconds: float = CHECK_SECONDS
    clock: Callable[[], float] = time.monotonic
    _connections: dict[Transfer, socket.socket] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _thread: Thread | None = None

    def watch(self, connection: socket.socket | None) -> Transfer:
        """Start the deadline of a message, up to the end of the context; without a connection, it has none."""
        transfer = Transfer(self, self.clock())
        if connection is not None:
            with self._lock:
                self._connections[transfer] = connection
                if self._thread is None:
                    self._thread = Thread(target=self._run, name="deadlines", daemon=True)
                    self._thread.start()
        return transfer

    def discard(self, transfer: Transfer) -> None:
        """Stop watching a transfer; a second call does nothing."""
        with self._lock:
            self._connections.pop(transfer, None)

    def stop_overdue(self) -> None:
        """Stop reading from each client that is slower than its deadline allows; a reply can still be sent.

        The thread that waits for bytes sees the end of the stream.
        """
        now = self.clock()
        with self._lock:  # so that no connection is stopped after its transfer has ended
            for transfer, connection in list(self._connections.items()):
                if now - transfer.started > self.grace_seconds + transfer.received / MIN_BYTES_PER_SECOND:
                    del self._connections[transfer]
                    transfer.expired = True
                    with suppress(OSError):  # the client has closed it
                        connection.shutdown(socket.SHUT_RD)

    def _run(self) -> None:
        while True:
            time.sleep(self.check_seconds)
            self.stop_overdue()
            with self._lock:
                if not self._connections:
                    self._thread = None
                    return


#: The deadlines of this process.
DEADLINES: Final = Deadlines()


def set_idle_timeout(connection: socket.socket | None, seconds: int = IDLE_SECONDS) -> None:
    """Let reads and writes fail after this number of seconds without progress."""
    if connection is not None:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", seconds, 0))  # a timeval
