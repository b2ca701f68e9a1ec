"""Send a short reply in one packet: the server writes headers and body separately, and a client would wake for each."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from object2vec.serving.responses import StreamedBody, WholeBody
from object2vec.serving.telemetry import Environ, Wsgi

#: The option that holds back what is sent until it is taken off again, 200 ms at the most: tcp(7). Linux has it.
TCP_CORK: Final[int | None] = getattr(socket, "TCP_CORK", None)


def cork_replies(app: Wsgi) -> Wsgi:
    """Return the application, which sends each whole body in one packet with its headers."""

    def wsgi(environ: Environ, start_response: Any) -> Iterable[bytes]:
        body = app(environ, start_response)
        connection = environ.get("gunicorn.socket")
        if TCP_CORK is None or connection is None or not isinstance(body, WholeBody):
            return body
        connection.setsockopt(socket.IPPROTO_TCP, TCP_CORK, 1)
        uncork = partial(connection.setsockopt, socket.IPPROTO_TCP, TCP_CORK, 0)
        return StreamedBody(body, body.length, uncork)  # WSGI closes it after all of it is written

    return wsgi
