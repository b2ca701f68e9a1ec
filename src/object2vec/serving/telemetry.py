"""Telemetry of requests: Prometheus metrics, a JSON log line, and the echo of the client's headers.

Under load, requests are recorded in groups, at most a tenth of a second late. Recording each one alone would cost more
than computing its answer, and each write to the log lets other threads run first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock, Timer
from time import perf_counter
from typing import IO, Any, Final, NamedTuple

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from object2vec.ops import library
from object2vec.serving.responses import WholeBody

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Any], Iterable[bytes]]

#: The key of WSGI's environment for the number of instances.
INSTANCES: Final = "object2vec.instances"
#: The same for warnings of its instances: a count of each kind.
WARNINGS: Final = "object2vec.warnings"
PATHS: Final = ("/ping", "/invocations", "/models", "/execution-parameters", "/metrics")
#: What a client may send to know its reply by; the platform passes on what a container sends back.
ECHOED: Final = ("X-Amzn-SageMaker-Inference-Id", "X-Amzn-SageMaker-Custom-Attributes")
ECHOED_AS: Final = [(name, f"HTTP_{name.upper().replace('-', '_')}") for name in ECHOED]
MAX_JSON_INTEGER: Final = 2**63 - 1  # of integers in JSON
INFERENCE_ID: Final = ECHOED_AS[0][1]
SECONDS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
#: Seconds that a request may wait for others to be recorded with, and how many do not wait any longer.
MAX_DELAY_SECONDS: Final = 0.1
MAX_PENDING: Final = 16
#: Bytes of lines in one write: what several processes write into one pipe stays whole up to here.
MAX_WRITE_BYTES: Final = 4096
COUNT_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000)


class _Request(NamedTuple):
    """A request that was answered."""

    time: datetime
    method: str
    path: str
    status: str
    seconds: float
    received: int
    sent: int
    instances: int | None
    inference_id: str | None
    warnings: dict[str, int] | None


class Telemetry:
    """Records the requests of a process.

    The workers of one server combine their metrics in the folder `shared`. `log` gets the lines, unbuffered.
    """

    def __init__(self, *, shared: Path | None = None, log: IO[bytes] | None = None) -> None:
        self._shared = shared
        self._log = log
        self._registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self._registry}
        self._seconds = Histogram(
            "object2vec_request_seconds", "Time to answer a request", ["path", "status"], buckets=SECONDS_BUCKETS, **own
        )
        self._instances = Histogram(
            "object2vec_request_instances", "Instances of an invocation", buckets=COUNT_BUCKETS, **own
        )
        self._warnings = Counter(
            "object2vec_input_warnings", "Sides of instances that were cut or have no tokens", ["kind"], **own
        )
        self._pending = Gauge(
            "object2vec_requests_pending",
            "Requests begun and not answered, without those to /metrics",
            multiprocess_mode="livesum",
            **own,
        )
        found = library.load()
        Gauge(
            "object2vec_kernels", "1 if C kernels run: those of this build", ["build"], multiprocess_mode="max", **own
        ).labels(found.build).set(found.handle is not None)
        self._unwritten: list[_Request] = []
        self._due, self._timed, self._lock = 0.0, False, Lock()

    def metrics(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        self._flush()
        if self._shared is None:
            return generate_latest(self._registry)
        return generate_latest(_Workers(self._shared))

    def wrap(self, app: Wsgi) -> Wsgi:
        """Return the application, which records each request."""

        def wsgi(environ: Environ, start_response: Any) -> Iterable[bytes]:
            started = perf_counter()
            status = "500"
            counted = 0 if environ["PATH_INFO"] == "/metrics" else 1
            self._pending.inc(counted)

            def start(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
                nonlocal status
                status = line[:3]
                headers += [(name, environ[key]) for name, key in ECHOED_AS if key in environ]
                return start_response(line, headers, exc_info) if exc_info else start_response(line, headers)

            def done(sent: int) -> None:
                self._pending.dec(counted)
                self._record(_request_of(environ, status, perf_counter() - started, sent))

            try:
                body = app(environ, start)
            except BaseException:  # the server ends the connection
                self._pending.dec(counted)
                raise
            if isinstance(body, WholeBody):
                done(body.length)
                return body
            return _CountedBody(body, done)

        return wsgi

    def _record(self, request: _Request) -> None:
        """Write a request at once if it comes alone, else together with others."""
        now = perf_counter()
        with self._lock:
            self._unwritten.append(request)
            alone, self._due = now >= self._due, now + MAX_DELAY_SECONDS
            late = not alone and len(self._unwritten) < MAX_PENDING
            timed, self._timed = self._timed, self._timed or late
        if not late:
            self._flush()
        elif not timed:
            Timer(MAX_DELAY_SECONDS, self._flush_late).start()  # a process that ends waits for it

    def _flush_late(self) -> None:
        self._timed = False
        self._flush()

    def _flush(self) -> None:
        """Write the requests that wait."""
        with self._lock:
            unwritten, self._unwritten = self._unwritten, []
        for request in unwritten:
            self._seconds.labels(_route(request.path), request.status).observe(request.seconds)
            if request.instances is not None:
                self._instances.observe(request.instances)
            for kind, count in (request.warnings or {}).items():
                self._warnings.labels(kind).inc(count)
        if self._log is not None:
            lines = [_line(request) for request in unwritten if request.path != "/ping" or request.status != "200"]
            for part in _blocks(lines):
                self._log.write(part)


class _Workers:
    """Collects the metrics of all workers, which write files in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """Return the sums over the workers. The file of a worker that has just started may still be empty."""
        files = [str(file) for file in self._folder.glob("*.db") if _size(file)]
        metrics: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return metrics


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # its worker has ended
        return 0


class _CountedBody:
    """A body that counts its bytes. WSGI closes it after it is sent, or when the client is gone."""

    def __init__(self, body: Iterable[bytes], done: Callable[[int], None]) -> None:
        self._body = body
        self._done = done
        self._sent = 0

    def __iter__(self) -> Iterator[bytes]:
        for part in self._body:
            self._sent += len(part)
            yield part

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            done, self._done = self._done, lambda _: None  # it may be closed again
            done(self._sent)


def _route(path: str) -> str:
    """Return the path with client-chosen names replaced, so that there are few labels."""
    if path in PATHS:
        return path
    match path.split("/"):
        case ["", "models", _]:
            return "/models/{name}"
        case ["", "models", _, "invoke"]:
            return "/models/{name}/invoke"
        case ["", "endpoints", _, "invocations"]:
            return "/endpoints/{name}/invocations"
    return "other"


def _request_of(environ: Environ, status: str, seconds: float, sent: int) -> _Request:
    get = environ.get
    received = min(int(get("CONTENT_LENGTH") or 0), MAX_JSON_INTEGER)  # a client may say what it likes
    about = received, sent, get(INSTANCES), get(INFERENCE_ID), get(WARNINGS)
    return _Request(datetime.now(UTC), environ["REQUEST_METHOD"], environ["PATH_INFO"], status, seconds, *about)


def _line(request: _Request) -> bytes:
    """Return the log line of a request."""
    line: dict[str, object] = {
        "time": request.time,
        "method": request.method,
        "path": request.path.encode("latin-1").decode("utf-8", "replace"),  # as WSGI has it: PEP 3333
        "status": int(request.status),
        "seconds": round(request.seconds, 6),
        "received": request.received,
        "sent": request.sent,
    }
    if request.instances is not None:
        line["instances"] = request.instances
    if request.inference_id is not None:
        line["inference_id"] = request.inference_id
    if request.warnings is not None:
        line["warnings"] = request.warnings
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _blocks(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join lines to blocks of at most `MAX_WRITE_BYTES` bytes. A single line may be longer."""
    part = b""
    for line in lines:
        if part and len(part) + len(line) > MAX_WRITE_BYTES:
            yield part
            part = b""
        part += line
    if part:
        yield part
