"""A real server, started by `object2vec serve` on a free port of the loopback."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

#: The platform ends a server with SIGKILL so long after SIGTERM; a training job has longer.
KILL_SECONDS = 30
COMMAND = str(Path(sys.executable).with_name("object2vec"))


class Server:
    """A running `object2vec serve`, which is ready when the constructor returns."""

    def __init__(self, model: Path, log: Path, cwd: Path | None = None, **environment: str) -> None:
        self.port = free_port()
        self.count = int(environment.get("SAGEMAKER_MODEL_SERVER_WORKERS", 2))
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [COMMAND, "serve", "--model", str(model), "--port", str(self.port)],
                stdout=file,
                stderr=file,
                cwd=cwd,
                env=os.environ | {"SAGEMAKER_MODEL_SERVER_WORKERS": "2", "OMP_WAIT_POLICY": "PASSIVE"} | environment,
            )
        self.wait()

    def wait(self) -> None:
        """Wait until all workers run and /ping is answered; each answer must have status 200."""
        for _ in range(3000):
            assert self.process.poll() is None, self.log.read_text()
            try:
                status, _ = self.send("GET", "/ping")
            except OSError:
                time.sleep(0.1)
            else:
                assert status == 200
                if len(self.workers()) == self.count:
                    return
        pytest.fail(self.log.read_text())

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Send one request; `content_type=` is Content-Type."""
        connection = self.connection()
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def ask(self, method: str, path: str, document: Any = None, **headers: str) -> tuple[int, Any]:
        """Send and receive JSON."""
        status, body = self.send(method, path, None if document is None else json.dumps(document).encode(), **headers)
        return status, json.loads(body)

    def workers(self) -> list[int]:
        """Return the processes of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM; return the exit status and the seconds until the end."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120), time.monotonic() - started


def pending(server: Server) -> float:
    """Return the number of pending requests in /metrics."""
    status, body = server.send("GET", "/metrics")
    assert status == 200, body
    lines = body.decode().splitlines()
    [value] = [line.partition(" ")[2] for line in lines if line.startswith("object2vec_requests_pending ")]
    return float(value)


def becomes(server: Server, count: int) -> bool:
    """Return whether `count` requests become pending; the server starts a request some time after it was sent."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with suppress(OSError, http.client.HTTPException):  # the worker was killed
            if pending(server) == count:
                return True
        time.sleep(0.02)
    return False


def free_port() -> int:
    """Return a free port outside the range that the system assigns to connections."""
    first, most = 10_000, 32_000
    with suppress(OSError):
        most = min(most, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]))
    for port in random.SystemRandom().sample(range(first, most), 100):
        with socket.socket() as free, suppress(OSError):
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")
