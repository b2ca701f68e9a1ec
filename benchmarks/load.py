"""Send requests in closed loop: each of the clients sends its next request when it has read the last reply.

With a rate, send them in open loop: a request is due at its time, even if earlier ones are late. If all clients are
waiting it is sent late, and its latency is counted from the time when it was due.

This is a process of its own, so that it only shares the CPU with the server. Usage:
`python load.py TYPE PORT CLIENTS SECONDS [RATE]`, with a JSON list of ASCII bodies on standard input.
Prints JSON: replies per second, and the latency of each.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field
from itertools import count, cycle


@dataclass(slots=True)
class Client:
    port: int
    connection: socket.socket = field(init=False)
    started: float = 0.0
    reply: bytes = b""

    def send(self, request: bytes, selector: selectors.BaseSelector) -> None:
        """Send a request, over a new connection if there is none."""
        self.started, self.reply = time.perf_counter(), b""
        if not hasattr(self, "connection"):
            self.connection = socket.create_connection(("127.0.0.1", self.port))
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(self.connection, selectors.EVENT_READ, self)
        self.connection.sendall(request)

    def receive(self, selector: selectors.BaseSelector) -> bool:
        """Read more of the reply, and return whether it is complete.

        Raises:
            RuntimeError: its status is not 200.
        """
        part = self.connection.recv(2**20)
        self.reply += part
        head, ended, body = self.reply.partition(b"\r\n\r\n")
        headers = head.lower()
        length = headers.partition(b"content-length:")[2].split(b"\r", 1)[0]
        whole = ended and (len(body) >= int(length) if length else body.endswith(b"0\r\n\r\n"))  # or it is in chunks
        if not whole and part:
            return False
        if not whole or not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"a reply other than 200: {self.reply[:500]!r}")
        if b"connection: close" in headers:
            selector.unregister(self.connection)
            self.connection.close()
            del self.connection
        return True


def to_request(body: str, content_type: str = "application/json") -> bytes:
    """Return the HTTP request for an ASCII body, with the headers that an invocation needs."""
    headers = f"Host: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return f"POST /invocations HTTP/1.1\r\n{headers}{body}".encode()


def drive(
    content_type: str, port: int, clients: int, seconds: float, bodies: list[str], rate: float | None = None
) -> tuple[float, list[float]]:
    """Return the replies per second and the sorted latencies in seconds; with a rate, in open loop."""
    requests = cycle([to_request(body, content_type) for body in bodies])
    selector = selectors.DefaultSelector()
    latencies: list[float] = []
    idle = [Client(port) for _ in range(clients)]
    started = now = time.perf_counter()
    dues = (started + number / rate if rate else 0.0 for number in count())  # in closed loop all are due at once
    due = next(dues)
    while now < started + seconds or not latencies:
        while idle and due <= now:
            client = idle.pop()
            client.send(next(requests), selector)
            client.started = due or client.started
            due = next(dues)
        for key, _ in selector.select(max(0.0, due - now) if idle else None):
            client = key.data
            if client.receive(selector):
                latencies.append(time.perf_counter() - client.started)
                idle.append(client)
        now = time.perf_counter()
    return len(latencies) / (now - started), sorted(latencies)


def main() -> None:
    content_type, port, clients, seconds, *due = sys.argv[1:]
    rate, latencies = drive(
        content_type, int(port), int(clients), float(seconds), json.load(sys.stdin), *map(float, due)
    )
    json.dump({"rate": rate, "latencies": latencies}, sys.stdout)


if __name__ == "__main__":
    main()
