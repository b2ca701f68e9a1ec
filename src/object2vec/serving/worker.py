"""gunicorn's worker with threads, and a deadline for the headers of a request."""

from __future__ import annotations

from typing import Any

from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from object2vec.serving.deadlines import DEADLINES, set_idle_timeout


class Worker(ThreadWorker):  # type: ignore[misc]
    """Closes a connection whose headers are not complete in time; a thread would wait for them without end."""

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
