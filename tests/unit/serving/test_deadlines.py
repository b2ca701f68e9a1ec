"""A client that sends too slowly is cut off; real sockets, read by gunicorn's own parser, and a clock of the test."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import TConn, ThreadWorker

from object2vec.errors import PayloadTooLargeError, RequestTimeoutError
from object2vec.serving import worker
from object2vec.serving.deadlines import IDLE_SECONDS, MIN_BYTES_PER_SECOND, Deadlines
from object2vec.serving.invocations import READ_BYTES, read_body

LENGTH = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


class Clock:
    """A clock that the test sets; once it has said when a transfer began, it is `then`."""

    def __init__(self, then: float) -> None:
        self.times = [0.0]
        self.then = then

    def __call__(self) -> float:
        return self.times.pop() if self.times else self.then


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's and the server's end of a connection."""
    client, server = socket.socketpair()
    with client, server:
        yield client, server


def environ_of(server: socket.socket) -> dict[str, Any]:
    """The WSGI environment of a request whose headers have been sent."""
    request = next(RequestParser(Config(), server, ("127.0.0.1", 0)))
    environ = {f"HTTP_{name}".replace("-", "_"): value for name, value in request.headers}
    environ |= {"wsgi.input": request.body, "wsgi.input_terminated": True, "gunicorn.socket": server}
    if "HTTP_CONTENT_LENGTH" in environ:
        environ["CONTENT_LENGTH"] = environ.pop("HTTP_CONTENT_LENGTH")
    return environ


@pytest.mark.parametrize(
    "sent",
    [
        LENGTH % 100,
        LENGTH % 100 + b"x",
        LENGTH % 10**6 + b"x" * 1000,
        CHUNKED,
        CHUNKED + b"5\r\nab",
        CHUNKED + b"2\r\nab",
        CHUNKED + b"2\r\nab\r\n0\r\n",
    ],
)
def test_body_that_does_not_come(ends: tuple[socket.socket, socket.socket], sent: bytes) -> None:
    """The thread that waits for it continues when the time is over, and the reply can still be sent."""
    client, server = ends
    client.sendall(sent)
    environ = environ_of(server)
    deadlines = Deadlines(grace_seconds=60, check_seconds=0.01, clock=Clock(61))
    with pytest.raises(RequestTimeoutError) as raised:
        read_body(environ, sys.maxsize, deadlines=deadlines)
    wanted = f"wanted at least {MIN_BYTES_PER_SECOND} bytes per second after the first 60 s"
    assert str(raised.value) == f"the body was not complete after 61 s, {wanted}"
    assert raised.value.http_status == 408
    server.sendall(b"reply")
    assert client.recv(9) == b"reply"


def test_refused_body_that_does_not_come(ends: tuple[socket.socket, socket.socket]) -> None:
    """Nor is a body read without end that is thrown away; the reason of the error_response stays."""
    client, server = ends
    client.sendall(LENGTH % 1000 + b"x")
    deadlines = Deadlines(check_seconds=0.01, clock=Clock(1000))
    with pytest.raises(PayloadTooLargeError):
        read_body(environ_of(server), 10, deadlines=deadlines)
    assert idle_timeout(server) == IDLE_SECONDS


def test_silence_in_a_body(ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends nothing more in the middle of a body gets an error long before the deadline."""
    client, server = ends
    client.sendall(LENGTH % 1000 + b"x")
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 1000))
    with pytest.raises(RequestTimeoutError, match="no byte of the body came for 60 s"):
        read_body(environ_of(server), 2000)


def idle_timeout(connection: socket.socket) -> int:
    seconds: int = struct.unpack("ll", connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16))[0]
    return seconds


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("length", [10, READ_BYTES, 3 * READ_BYTES + 1])
def test_body_in_time(ends: tuple[socket.socket, socket.socket], length: int, chunked: bool) -> None:
    """A body in pieces of any size is read to its end, and its connection is no longer watched."""
    client, server = ends
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
    body = bytes(n % 251 for n in range(length))
    client.sendall(CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (length, body) if chunked else LENGTH % length + body)
    deadlines = Deadlines(check_seconds=0.01, clock=Clock(59))
    assert read_body(environ_of(server), sys.maxsize, deadlines=deadlines) == body
    deadlines.clock = lambda: 10.0**6
    deadlines.stop_overdue()
    client.sendall(b"next")
    assert server.recv(9) == b"next"


@pytest.mark.parametrize(("seconds", "received", "expired"), [(60, 0, False), (61, 0, True), (60 + 9, 1, True)])
def test_time_grows_with_what_has_come(
    ends: tuple[socket.socket, socket.socket], seconds: float, received: int, expired: bool
) -> None:
    """A minute for any message, and what the least rate needs; one byte a second is not enough."""
    clock = Clock(seconds)
    deadlines = Deadlines(check_seconds=3600, clock=clock)
    with deadlines.watch(ends[1]) as transfer:
        transfer.received = received
        deadlines.stop_overdue()
        assert transfer.expired == expired
        transfer.expired = False
        transfer.received = MIN_BYTES_PER_SECOND * 1000
        clock.then = 1060
        deadlines.stop_overdue()
        assert not transfer.expired


def test_a_client_at_the_least_rate_is_served() -> None:
    """Only whole pieces count as received; the time for the first one is enough for it."""
    assert READ_BYTES / MIN_BYTES_PER_SECOND < 60


def test_without_a_connection_there_is_no_deadline() -> None:
    """As in a test client."""
    deadlines = Deadlines(clock=Clock(1000))
    with deadlines.watch(None) as transfer:
        deadlines.stop_overdue()
        assert not transfer.expired


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\nHost: x\r\nX-Part: "])
def test_headers_that_do_not_come(
    ends: tuple[socket.socket, socket.socket], sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker's thread continues, and the connection ends."""
    client, server = ends
    client.sendall(sent)
    monkeypatch.setattr(worker, "DEADLINES", Deadlines(check_seconds=0.01, clock=Clock(61)))
    log = SimpleNamespace(debug=lambda *_: None)
    of = object.__new__(worker.Worker)
    of.cfg, of.log = Config(), log
    assert not of.handle(TConn(of.cfg, server, ("127.0.0.1", 0), ("127.0.0.1", 1)))


def test_headers_in_time(ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline of the headers ends before the application begins, which may take as long as it needs."""
    client, server = ends
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    deadlines = Deadlines(check_seconds=3600, clock=Clock(1000))
    monkeypatch.setattr(worker, "DEADLINES", deadlines)

    def handle_request(_: Any, req: Any, conn: Any) -> bool:
        assert idle_timeout(server) == IDLE_SECONDS
        deadlines.stop_overdue()
        client.sendall(b"more")
        assert server.recv(9) == b"more"
        return False

    monkeypatch.setattr(ThreadWorker, "handle_request", handle_request)
    of = object.__new__(worker.Worker)
    of.cfg, of.log = Config(), SimpleNamespace(debug=lambda *_: None)
    conn = TConn(of.cfg, server, ("127.0.0.1", 0), ("127.0.0.1", 1))
    assert not of.handle(conn)
    assert not conn.header_transfer.expired
