"""gunicorn's worker with threads, a deadline for the headers of a request, and its share of the connections."""

from __future__ import annotations

import time
from typing import Any, Final

from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from object2vec.serving.balancing import POLL_SECONDS, Balance, ConnectionCounts
from object2vec.serving.deadlines import DEADLINES, set_idle_timeout

#: The connections of all workers, which are forked from one process.
CONNECTIONS: Final = ConnectionCounts()


class Worker(ThreadWorker):  # type: ignore[misc]
    """Closes a connection whose headers are not complete in time; a thread would wait for them without end."""

    def run(self) -> None:
        self.balance = Balance(CONNECTIONS)
        CONNECTIONS.set(self.age, 0)
        super().run()

    def accept(self, *listener: Any) -> None:
        if self.balance.defers(self.nr_conns):
            time.sleep(POLL_SECONDS)
            return
        super().accept(*listener)
        CONNECTIONS.set(self.age, self.nr_conns)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        super().wait_for_and_dispatch_events(timeout)
        CONNECTIONS.set(self.age, self.nr_conns)

    def handle(self, conn: Any) -> Any:
        conn.header_transfer = DEADLINES.watch(conn.sock)
        with conn.header_transfer:
            return super().handle(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        DEADLINES.discard(conn.header_transfer)
        if not hasattr(conn, "has_idle_timeout"):
            set_idle_timeout(conn.sock)
            conn.has_idle_timeout = True
        return super().handle_request(req, conn)
