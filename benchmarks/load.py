"""Requests in closed loop: so many clients, each of which sends the next request when it has read the last reply.

Or in open loop, where requests are due at a rate, whatever becomes of those before: a request that finds all clients
waiting is late, and what it takes is counted from when it was due.

A process of its own, so that it takes no time from a server but the CPU's. `python load.py PORT CLIENTS SECONDS [RATE]`
with bodies on standard input, a JSON list of texts that are sent in turn; prints JSON: replies a second, and the
seconds that each took.
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
        """Begin a request, over a new connection where there is none to go on with."""
        self.started, self.reply = time.perf_counter(), b""
        if not hasattr(self, "connection"):
            self.connection = socket.create_connection(("127.0.0.1", self.port))
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(self.connection, selectors.EVENT_READ, self)
        self.connection.sendall(request)

    def receive(self, selector: selectors.BaseSelector) -> bool:
        """Read on; whether the reply is whole.

        Raises:
            RuntimeError: it is not 200.
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


def to_request(body: str) -> bytes:
    """A body of ASCII with the headers that an invocation has at least."""
    headers = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return f"POST /invocations HTTP/1.1\r\n{headers}{body}".encode()


def drive(
    port: int, clients: int, seconds: float, bodies: list[str], rate: float | None = None
) -> tuple[float, list[float]]:
    """Replies a second, and the seconds from each request to its reply, ascending; with a rate in open loop."""
    requests = cycle(map(to_request, bodies))
    selector = selectors.DefaultSelector()
    taken: list[float] = []
    idle = [Client(port) for _ in range(clients)]
    started = now = time.perf_counter()
    dues = (started + number / rate if rate else 0.0 for number in count())  # in closed loop all are due at once
    due = next(dues)
    while now < started + seconds or not taken:
        while idle and due <= now:
            client = idle.pop()
            client.send(next(requests), selector)
            client.started = due or client.started
            due = next(dues)
        for key, _ in selector.select(max(0.0, due - now) if idle else None):
            client = key.data
            if client.receive(selector):
                taken.append(time.perf_counter() - client.started)
                idle.append(client)
        now = time.perf_counter()
    return len(taken) / (now - started), sorted(taken)


def main() -> None:
    port, clients, seconds, *due = sys.argv[1:]
    rate, taken = drive(int(port), int(clients), float(seconds), json.load(sys.stdin), *map(float, due))
    json.dump({"rate": rate, "taken": taken}, sys.stdout)


if __name__ == "__main__":
    main()
