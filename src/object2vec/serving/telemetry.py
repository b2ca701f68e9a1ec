"""Telemetry of requests: Prometheus metrics, a JSON log line, and the echo of the client's headers.

Under load, requests are recorded in groups, at most a tenth of a second late. Recording each one alone would cost more
than computing its answer, and each write to the log lets other threads run first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock, Timer
from time import perf_counter
from typing import IO, Any, Final

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
#: Fields of a log line that not every request has, and their keys in WSGI's environment.
OPTIONAL_FIELDS: Final = (("instances", INSTANCES), ("inference_id", ECHOED_AS[0][1]), ("warnings", WARNINGS))
SECONDS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
#: Seconds that a request may wait for others to be recorded with, and how many do not wait any longer.
MAX_DELAY_SECONDS: Final = 0.1
MAX_PENDING: Final = 16
#: Bytes of lines in one write: what several processes write into one pipe stays whole up to here.
MAX_WRITE_BYTES: Final = 4096
COUNT_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000)


#: Names and help texts of the metrics in Prometheus.
SECONDS: Final = "object2vec_request_seconds", "Time to answer a request", ["path", "status"]
INSTANCE_COUNT: Final = "object2vec_request_instances", "Instances of an invocation"
INPUT_WARNINGS: Final = "object2vec_input_warnings", "Sides of instances that were cut or have no tokens", ["kind"]
PENDING: Final = "object2vec_requests_pending", "Requests begun and not answered, without those to /metrics"
KERNELS: Final = "object2vec_kernels", "1 if C kernels run: those of this build", ["build"]

#: A request that was answered: its time, environment, status, seconds, and the bytes sent.
_Request = tuple[datetime, Environ, str, float, int]


class Telemetry:
    """Records the requests of a process.

    The workers of one server combine their metrics in the folder `shared`. `log` gets the lines, unbuffered.
    """

    def __init__(self, *, shared: Path | None = None, log: IO[bytes] | None = None) -> None:
        self._shared = shared
        self._log = log
        self._registry = registry = CollectorRegistry()
        self._seconds = Histogram(*SECONDS, buckets=SECONDS_BUCKETS, registry=registry)
        self._instances = Histogram(*INSTANCE_COUNT, buckets=COUNT_BUCKETS, registry=registry)
        self._warnings = Counter(*INPUT_WARNINGS, registry=registry)
        self._pending = Gauge(*PENDING, multiprocess_mode="livesum", registry=registry)
        found = library.load()
        kernels = Gauge(*KERNELS, multiprocess_mode="max", registry=registry)
        kernels.labels(found.build).set(found.handle is not None)
        self._unwritten: list[_Request] = []
        self._due, self._timed, self._lock = 0.0, False, Lock()

    def metrics(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        self._flush()
        return generate_latest(_Workers(self._shared) if self._shared else self._registry)

    def wrap(self, app: Wsgi) -> Wsgi:
        """Return the application, which records each request."""

        def wsgi(environ: Environ, start_response: Any) -> Iterable[bytes]:
            started = perf_counter()
            status = "500"
            counted = environ["PATH_INFO"] != "/metrics"
            self._pending.inc(counted)  # at once: it may hang

            def start(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
                nonlocal status
                status = line[:3]
                headers += [(name, environ[key]) for name, key in ECHOED_AS if key in environ]
                return start_response(line, headers, exc_info) if exc_info else start_response(line, headers)

            def done(sent: int) -> None:
                self._record((datetime.now(UTC), environ, status, perf_counter() - started, sent))

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
        lines = [_line(*request) for request in unwritten]
        self._pending.dec(sum(line["path"] != "/metrics" for line in lines))
        for line in lines:
            self._seconds.labels(_route(line["path"]), line["status"]).observe(line["seconds"])
            if "instances" in line:
                self._instances.observe(line["instances"])
            for kind, count in line.get("warnings", {}).items():
                self._warnings.labels(kind).inc(count)
        if self._log is not None:
            for block in _blocks(line for line in lines if line["path"] != "/ping" or line["status"] != 200):
                self._log.write(block)


@dataclass(frozen=True, slots=True)
class _Workers:
    """Collects the metrics of all workers, which write files in one folder."""

    folder: Path

    def collect(self) -> Iterable[Metric]:
        """Return the sums over the workers. The file of a worker that has just started may still be empty."""
        files = [str(file) for file in self.folder.glob("*.db") if _size(file)]
        metrics: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return metrics


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # its worker has ended
        return 0


@dataclass(slots=True)
class _CountedBody:
    """A body that counts its bytes. WSGI closes it after it is sent, or when the client is gone."""

    body: Iterable[bytes]
    done: Callable[[int], None]
    sent: int = 0

    def __iter__(self) -> Iterator[bytes]:
        for part in self.body:
            self.sent += len(part)
            yield part

    def close(self) -> None:
        try:
            getattr(self.body, "close", lambda: None)()
        finally:
            done, self.done = self.done, lambda _: None  # it may be closed again
            done(self.sent)


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


def _line(time: datetime, environ: Environ, status: str, seconds: float, sent: int) -> dict[str, Any]:
    """Return the log line of a request."""
    line = {
        "time": time,
        "method": environ["REQUEST_METHOD"],
        "path": environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace"),  # as WSGI has it: PEP 3333
        "status": int(status),
        "seconds": int(1e6 * seconds) / 1e6,  # round() would take longer than the rest of the line
        "received": min(int(environ.get("CONTENT_LENGTH") or 0), MAX_JSON_INTEGER),  # a client may send any number
        "sent": sent,
    }
    for name, key in OPTIONAL_FIELDS:
        if key in environ:
            line[name] = environ[key]
    return line


def _blocks(lines: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """Write lines as JSON in blocks of at most `MAX_WRITE_BYTES` bytes. A single line may be longer."""
    block = b""
    for line in lines:
        text = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        if block and len(block) + len(text) > MAX_WRITE_BYTES:
            yield block
            block = b""
        block += text
    if block:
        yield block
