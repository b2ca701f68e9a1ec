"""What goes wrong on the way: clients that stall, lie and leave, workers that die, and a stop in the midst of it.

Over real sockets, against the real server. After each of them it answers as before.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from pathlib import Path

import pytest

from object2vec import artifact
from object2vec.serving.invocations import MAX_INVOCATIONS
from servers import KILL_SECONDS, Server, becomes, pending
from small import configured, network_of

pytestmark = pytest.mark.slow

BODY = json.dumps({"instances": [{"in0": [1, 2], "in1": [3]}]}).encode()
HEAD = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ml") / "model"
    hyperparameters = configured(enc0_max_seq_len=5000)
    artifact.save(directory, network_of(hyperparameters), hyperparameters, training={}, vocabularies={})
    return directory


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    server = Server(model, model.parent / "log")
    yield server
    assert server.stop()[0] == 0, server.log.read_text()
    assert "Traceback" not in server.log.read_text()


@pytest.fixture(autouse=True)
def answers_as_before(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check that every worker still answers after the test."""
    yield
    if "server" in request.fixturenames:
        server = request.getfixturevalue("server")
        assert len(server.workers()) == 2
        for _ in range(10):
            assert server.send("POST", "/invocations", BODY)[0] == 200


def raw(server: Server, *parts: bytes, read: bool = True) -> bytes:
    """Send bytes without changes; return the reply up to its end, or until a second passes without data."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as connection:
        for part in parts:
            connection.sendall(part)
        if not read:
            return b""
        connection.settimeout(120)
        reply = connection.recv(2**16)
        connection.settimeout(1)
        try:
            while part := connection.recv(2**16):
                reply += part
        except (TimeoutError, ConnectionResetError):
            pass
        return reply


def status(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


# Clients.


def test_client_disconnects(server: Server) -> None:
    """It leaves within the head, within the body, or before the reply."""
    for parts in (
        (HEAD,),
        (HEAD + b"Content-Length: 100\r\n\r\n", BODY[:10]),
        (HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY), BODY),
    ):
        for _ in range(20):
            raw(server, *parts, read=False)


def test_body_shorter_than_content_length_is_refused(server: Server) -> None:
    """The client gets an error if it still reads."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (len(BODY) + 5) + BODY)
        connection.shutdown(socket.SHUT_WR)
        reply = HTTPResponse(connection)
        reply.begin()
        assert reply.status == 400
        assert b"the body ended after %d of the %d bytes" % (len(BODY), len(BODY) + 5) in reply.read()


def test_body_longer_than_content_length(server: Server) -> None:
    """The rest is read as another, invalid request."""
    reply = raw(server, HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY + b"rubbish\r\n\r\n")
    assert status(reply) == 200
    assert reply.count(b"HTTP/1.1") <= 2


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"", b"99999999999999999999999", b"5, 5", b"\xff"])
def test_invalid_content_length_is_refused(server: Server, length: bytes) -> None:
    reply = raw(server, HEAD + b"Content-Length: " + length + b"\r\n\r\n" + BODY)
    assert not reply or 400 <= status(reply) < 500


def test_slow_body_is_answered(server: Server) -> None:
    """A body that arrives byte by byte does not delay other requests."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY))
        for byte in BODY:
            connection.sendall(bytes([byte]))
            time.sleep(0.01)
        assert server.send("POST", "/invocations", BODY)[0] == 200
        assert status(connection.recv(2**16)) == 200


def test_chunked_bodies(server: Server) -> None:
    """Chunks of any size are accepted; invalid chunks are a client error."""
    chunks = b"".join(b"%x\r\n%s\r\n" % (1, BODY[i : i + 1]) for i in range(len(BODY)))
    assert status(raw(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunks, b"0\r\n\r\n")) == 200
    for wrong in (b"zz\r\n", b"-5\r\n", b"5\r\nabc"):
        reply = raw(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", wrong, b"\r\n\r\n0\r\n\r\n")
        assert not reply or 400 <= status(reply) < 500, wrong


def test_compressed_bodies_are_refused(server: Server) -> None:
    """They are refused at once, even if they are valid."""
    for body in (gzip.compress(BODY), b"no gzip"):
        assert server.send("POST", "/invocations", body, content_encoding="gzip")[0] == 415
        assert server.send("POST", "/invocations", body)[0] == 400


def test_body_of_100_mb_is_refused(server: Server) -> None:
    """The status is 413, whether or not the server reads the whole body."""
    assert server.send("POST", "/invocations", b" " * 100_000_000)[0] == 413


def test_deep_json(server: Server) -> None:
    for body in (b"[" * 10**6, b'{"instances": ' + b"[" * 10**6, b'{"instances": [{"in0": ' + b'{"a":' * 10**5):
        assert server.send("POST", "/invocations", body)[0] == 400


def test_ten_million_tokens_are_truncated(server: Server) -> None:
    """The worker takes less memory than ten times the body."""
    tokens = b",".join([b"7"] * 10_000_000)
    before = peak(server)
    code, reply = server.send("POST", "/invocations", b'{"instances": [{"in0": [' + tokens + b"]}]}")
    assert (code, len(json.loads(reply)["predictions"][0]["embeddings"])) == (200, 4)
    assert peak(server) - before < 10 * len(tokens)
    many = b",".join([b'{"in0":[' + b",".join([b"3"] * 100) + b"]}"] * 100_000)
    code, reply = server.send("POST", "/invocations", b'{"instances": [' + many + b"]}")
    assert (code, len(json.loads(reply)["predictions"])) == (200, 100_000)


def peak(server: Server) -> int:
    """Return the highest memory of any worker, in bytes."""
    lines = (Path(f"/proc/{pid}/status").read_text() for pid in server.workers())
    return max(int(text.partition("VmHWM:")[2].split()[0]) for text in lines) * 1024


def test_ping_is_answered_while_clients_stall(model: Path, tmp_path: Path) -> None:
    """With more stalled clients than allowed, other invocations are refused, and /ping is answered."""
    server = Server(model, tmp_path / "log", SAGEMAKER_MODEL_SERVER_WORKERS="1")
    stalled = [socket.create_connection(("127.0.0.1", server.port), timeout=120) for _ in range(MAX_INVOCATIONS + 60)]
    for connection in stalled:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
    assert becomes(server, MAX_INVOCATIONS)
    for _ in range(50):
        assert server.send("GET", "/ping")[0] == 200
        assert server.send("POST", "/invocations", BODY)[0] == 503
    assert pending(server) == MAX_INVOCATIONS  # none of them was waited for
    for connection in stalled:
        connection.close()
    assert becomes(server, 0)
    assert server.send("POST", "/invocations", BODY)[0] == 200
    assert server.stop()[0] == 0


# Workers, and the whole server.


def begin(server: Server) -> socket.socket:
    """Return a connection on which the body of a request is incomplete."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY[:10])
    return connection


def end(connection: socket.socket) -> int:
    """Send the rest of the body; return the status of the reply, or 0 without a reply."""
    with connection:
        try:
            connection.sendall(BODY[10:])
            reply = connection.recv(2**16)
        except OSError:
            return 0
    return status(reply) if reply else 0


def test_killed_worker_loses_only_its_own_requests(model: Path, tmp_path: Path) -> None:
    """The other worker answers its requests, and a new worker is started."""
    server = Server(model, tmp_path / "log")
    try:
        killed, left = server.workers()
        begun = [begin(server) for _ in range(40)]
        assert becomes(server, 40)
        os.kill(killed, signal.SIGKILL)
        until = time.monotonic() + 120
        while (killed in server.workers() or len(server.workers()) < 2) and time.monotonic() < until:
            time.sleep(0.1)
        of_left = pending(server)
        statuses = [end(connection) for connection in begun]
        assert (statuses.count(200), statuses.count(0)) == (of_left, 40 - of_left)
        assert left in server.workers()
        assert killed not in server.workers()
        assert {server.send("POST", "/invocations", BODY)[0] for _ in range(20)} == {200}
    finally:
        assert server.stop()[0] == 0


def test_sigterm_loses_no_request(model: Path, tmp_path: Path) -> None:
    """Under load from 64 clients, requests that were sent are answered, and the status is 0."""
    server = Server(model, tmp_path / "log")
    stopping = threading.Event()

    def ask(_: int) -> list[int]:
        found = []
        while not stopping.is_set():
            try:
                connection = begin(server)
            except ConnectionRefusedError:
                break
            time.sleep(0.01)
            found.append(end(connection))
        return found

    with ThreadPoolExecutor(64) as pool:
        asked = pool.map(ask, range(64))
        time.sleep(2)
        begun = [begin(server) for _ in range(64)]
        stopping.set()
        assert {code for codes in asked for code in codes} == {200}
        assert becomes(server, 64)  # a connection in the queue of the listening socket would be lost
        server.process.send_signal(signal.SIGTERM)
        assert [end(connection) for connection in begun] == [200] * 64
    assert server.process.wait(KILL_SECONDS) == 0, server.log.read_text()


def test_ping_is_answered_while_all_workers_are_busy(model: Path, tmp_path: Path) -> None:
    """32 clients send long requests without pause; 200 pings do not wait for a turn among them."""
    server = Server(model, tmp_path / "log")
    body = json.dumps({"instances": [{"in0": [n % 9, 1], "in1": [n % 7] * 9} for n in range(5000)]}).encode()
    stopping = threading.Event()

    def ask(_: int) -> list[float]:
        seconds = []
        while not stopping.is_set():
            started = time.monotonic()
            assert server.send("POST", "/invocations", body)[0] == 200
            seconds.append(time.monotonic() - started)
        return seconds

    try:
        with ThreadPoolExecutor(32) as pool:
            asked = pool.map(ask, range(32))
            time.sleep(1)
            taken = []
            for _ in range(200):
                started = time.monotonic()
                assert server.send("GET", "/ping")[0] == 200
                taken.append(time.monotonic() - started)
                time.sleep(0.01)
            stopping.set()
            asking = sorted(seconds for each in asked for seconds in each)
        print(f"pings: median {sorted(taken)[100]:.3f} s, p99 {sorted(taken)[197]:.3f} s")
        assert sorted(taken)[100] < asking[len(asking) // 2] / 4  # in the same time, on the same machine
    finally:
        assert server.stop()[0] == 0
