"""Short replies in one packet, over a real connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from object2vec.serving.responses import WholeBody
from object2vec.serving.tcp_cork import TCP_CORK, cork_replies

pytestmark = pytest.mark.skipif(TCP_CORK is None, reason="Linux alone holds packets back")


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of one: the server's and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        server, _ = listening.accept()
    with server, client:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.settimeout(60)
        yield server, client


def test_head_and_body_come_together(connection: tuple[socket.socket, socket.socket]) -> None:
    """Nothing before the body is closed, then all at once; and the next reply on the connection likewise."""
    server, client = connection
    app = cork_replies(lambda environ, start: WholeBody(b"body"))
    for _ in range(2):
        body: Any = app({"gunicorn.socket": server}, None)
        server.sendall(b"head ")
        for part in body:
            server.sendall(part)
        # Linux holds a corked packet back for 200 ms, so what has come tells nothing on a slow machine.
        assert server.getsockopt(socket.IPPROTO_TCP, TCP_CORK) == 1
        body.close()
        assert server.getsockopt(socket.IPPROTO_TCP, TCP_CORK) == 0
        assert client.recv(9, socket.MSG_WAITALL) == b"head body"


def test_what_is_no_short_reply_is_let_through(connection: tuple[socket.socket, socket.socket]) -> None:
    """A body in parts, of which each leaves when it is ready; and a server that shows no connection."""
    server, client = connection
    parts = iter((b"a", b"b"))
    assert cork_replies(lambda environ, start: parts)({"gunicorn.socket": server}, None) is parts
    assert cork_replies(lambda environ, start: WholeBody(b"a"))({}, None) == WholeBody(b"a")
    server.sendall(b"now")
    assert client.recv(100) == b"now"
