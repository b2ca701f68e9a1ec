"""gunicorn's worker with threads, and a deadline for the headers of a request."""

from __future__ import annotations

from typing import Any

from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from object2vec.serving.deadlines import DEADLINES


class Worker(ThreadWorker):  # type: ignore[misc]
    """Closes a connection whose headers are not complete in time; a thread would wait for them without end."""

    def handle(self, conn: Any) -> Any:
        conn.header_transfer = DEADLINES.watch(conn.sock)
        with conn.header_transfer:
            return super().handle(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        conn.header_transfer.end()
        return super().handle_request(req, conn)
