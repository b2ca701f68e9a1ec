"""What is recorded of requests: to Prometheus, to the log, and back to the client."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient

from object2vec.serving import gunicorn_hooks, telemetry
from object2vec.serving.application import create_app
from object2vec.serving.predictor import Predictor
from object2vec.serving.responses import WholeBody
from object2vec.serving.telemetry import ECHOED, INSTANCES, Telemetry
from small import configured, network_of

PAIR = '{"instances": [{"in0": [1, 2], "in1": [3]}, {"in0": [4]}]}'


@pytest.fixture
def log() -> io.BytesIO:
    return io.BytesIO()


@pytest.fixture
def client(log: io.BytesIO, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    monkeypatch.setattr(telemetry, "MAX_DELAY_SECONDS", 0.0)  # every request comes alone
    hyperparameters = configured()
    predictor = Predictor(network_of(hyperparameters), hyperparameters, directory=Path("nowhere"))
    return create_app(predictor, telemetry=Telemetry(log=log)).test_client()


def lines(log: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_a_request_is_a_line(client: FlaskClient, log: io.BytesIO) -> None:
    """Each request has a line of JSON, for any status."""
    reply = client.post("/invocations", data=PAIR, headers={ECHOED[0]: "abc"})
    client.post("/invocations", data="{")
    client.get("/nothing%0a{}").close()
    request, error_body, missing = lines(log)
    assert request.pop("time").endswith("+00:00")
    assert request.pop("seconds") > 0
    assert request == {
        "method": "POST",
        "path": "/invocations",
        "status": 200,
        "received": len(PAIR),
        "sent": len(reply.data),
        "instances": 2,
        "inference_id": "abc",
    }
    assert (error_body["status"], "instances" in error_body) == (400, False)
    assert (missing["path"], missing["status"]) == ("/nothing\n{}", 404)


def test_health_is_no_line(client: FlaskClient, log: io.BytesIO) -> None:
    """It is asked all the time, and only its absence tells anything."""
    client.get("/ping").close()
    assert lines(log) == []


@pytest.mark.parametrize("path", ["/invocations", "/ping", "/nothing"])
def test_a_client_gets_its_own_headers_back(client: FlaskClient, path: str) -> None:
    reply = client.post(path, data=PAIR, headers={ECHOED[0]: "abc", ECHOED[1]: "trace=7", "X-Other": "x"})
    assert [reply.headers[name] for name in ECHOED] == ["abc", "trace=7"]
    assert "X-Other" not in reply.headers


def test_metrics(client: FlaskClient) -> None:
    """Requests by path and status with their time, instances, and what is under way; made-up paths are one."""
    for _ in range(3):
        client.post("/invocations", data=PAIR)
    client.get("/a").close()
    client.get("/b").close()
    reply = client.get("/metrics")
    assert reply.content_type.startswith("text/plain")
    numbers = dict(line.rsplit(" ", 1) for line in reply.text.splitlines() if not line.startswith("#"))
    assert numbers['object2vec_request_seconds_count{path="/invocations",status="200"}'] == "3.0"
    assert numbers['object2vec_request_seconds_count{path="other",status="404"}'] == "2.0"
    assert numbers["object2vec_request_instances_sum"] == "6.0"
    assert numbers["object2vec_requests_pending"] == "0.0"


def test_warnings_are_counted(client: FlaskClient, log: io.BytesIO) -> None:
    """By kind, in the log and for Prometheus; a request without any has no word of them."""
    client.post("/invocations", data='{"instances": [{"in0": [0], "in1": []}, {"in0": [1, 2, 3, 4, 5, 6, 7]}]}')
    client.post("/invocations", data='{"instances": [{"in0": [0]}]}')
    client.post("/invocations", data=PAIR)
    assert [line.get("warnings") for line in lines(log)] == [{"no_tokens": 2, "truncated": 1}, {"no_tokens": 1}, None]
    numbers = client.get("/metrics").text.splitlines()
    assert 'object2vec_input_warnings_total{kind="no_tokens"} 3.0' in numbers
    assert 'object2vec_input_warnings_total{kind="truncated"} 1.0' in numbers


def test_endpoints_of_any_name_are_one_path(client: FlaskClient) -> None:
    for name in ("a", "b"):
        client.post(f"/endpoints/{name}/invocations", data=PAIR)
    numbers = client.get("/metrics").text.splitlines()
    wanted = 'object2vec_request_seconds_count{path="/endpoints/{name}/invocations",status="200"} 2.0'
    assert wanted in numbers


def test_a_body_in_parts_is_told_when_it_has_left(log: io.BytesIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """This also holds if the body is not read to its end."""
    monkeypatch.setattr(telemetry, "MAX_DELAY_SECONDS", 0.0)

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        environ[INSTANCES] = 9
        start_response("200 OK", [])
        return iter((b"one", b"two"))

    observed = Telemetry(log=log).wrap(app)
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/invocations"}
    for parts in (2, 1):
        body: Any = observed(dict(environ), lambda *_: None)
        taken = iter(body)
        for _ in range(parts):
            next(taken)
        assert len(lines(log)) == 2 - parts
        body.close()
    assert [(line["sent"], line["instances"]) for line in lines(log)] == [(6, 9), (3, 9)]


def test_metrics_of_workers_are_summed(tmp_path: Path) -> None:
    """Requests of a process that has ended count, and those that it had pending do not."""
    code = (
        "import sys; from pathlib import Path; from object2vec.serving.responses import WholeBody\n"
        "from object2vec.serving.telemetry import Telemetry\n"
        "shared = Path(sys.argv[1]); one = Telemetry(shared=shared)\n"
        "app = one.wrap(lambda environ, start: (start('200 OK', []), WholeBody(b'x'))[1])\n"
        "app({'REQUEST_METHOD': 'GET', 'PATH_INFO': '/ping'}, lambda *_: None)\n"
        "hanging = one.wrap(lambda environ, start: (start('200 OK', []), iter(()))[1])\n"
        "bodies = [hanging({'REQUEST_METHOD': 'GET', 'PATH_INFO': '/ping'}, lambda *_: None) for _ in range(5)]\n"
        "sys.stdout.write(one.metrics().decode())"
    )
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    for times in (1, 2):
        command = [sys.executable, "-c", code, str(tmp_path)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        output, _ = process.communicate()
        assert process.returncode == 0
        assert f'object2vec_request_seconds_count{{path="/ping",status="200"}} {times}.0' in output
        assert "object2vec_requests_pending 5.0" in output
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
            gunicorn_hooks.child_exit(None, SimpleNamespace(pid=process.pid, age=1))


def test_empty_file_of_a_new_worker_is_skipped(tmp_path: Path) -> None:
    """A worker creates its file first and writes to it a moment later."""
    for kind in ("counter", "gauge_livesum", "histogram"):
        (tmp_path / f"{kind}_1.db").touch()
    assert Telemetry(shared=tmp_path).metrics() == b""


def pending(of: Telemetry) -> str:
    [line] = [line for line in of.metrics().decode().splitlines() if line.startswith("object2vec_requests_pending ")]
    return line.partition(" ")[2]


def test_pending_requests_are_counted_at_once() -> None:
    """From the first moment until the reply has left, or the application has failed; /metrics is not counted."""
    of = Telemetry()
    seen = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        seen.append(pending(of))
        if environ["PATH_INFO"] == "/fails":
            raise SystemExit
        start_response("200 OK", [])
        return iter((b"part",))

    observed = of.wrap(app)
    bodies: list[Any] = [observed({"REQUEST_METHOD": "POST", "PATH_INFO": "/x"}, lambda *_: None) for _ in range(3)]
    with pytest.raises(SystemExit):
        observed({"REQUEST_METHOD": "POST", "PATH_INFO": "/fails"}, lambda *_: None)
    observed({"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics"}, lambda *_: None)
    assert seen == ["1.0", "2.0", "3.0", "4.0", "3.0"]
    for body in bodies:
        body.close()
        body.close()
    assert pending(of) == "0.0"


@pytest.fixture
def writes() -> list[bytes]:
    return []


class Clock:
    """A clock that the test sets, and the timers that wait for it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def timer(self, seconds: float, call: Callable[[], None]) -> SimpleNamespace:
        return SimpleNamespace(start=lambda: self.timers.append((self.now + seconds, call)))

    def ring(self) -> None:
        """Go on to the time of every timer."""
        timers, self.timers = self.timers, []
        for at, call in timers:
            self.now = max(self.now, at)
            call()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(telemetry, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(telemetry, "Timer", clock.timer)
    return clock


@pytest.fixture
def ask(writes: list[bytes], clock: Clock) -> Callable[..., Telemetry]:
    """Observe requests, each followed by its seconds of silence; `writes` has the writes to the log."""

    def asked(count: int, path: str = "/invocations", pause: float = 0.0) -> Telemetry:
        log = io.BytesIO()
        log.write = lambda part: writes.append(part) or len(part)  # type: ignore[method-assign, assignment]
        of = Telemetry(log=log)
        app = of.wrap(lambda environ, start: (start("200 OK", []), WholeBody(b"ok"))[1])
        for _ in range(count):
            app({"PATH_INFO": path, "REQUEST_METHOD": "POST"}, lambda *_: None)
            clock.now += pause
        return of

    return asked


def test_a_line_that_comes_alone_is_written_at_once(ask: Callable[..., Telemetry], writes: list[bytes]) -> None:
    ask(3, pause=2 * telemetry.MAX_DELAY_SECONDS)
    assert len(writes) == 3


def test_requests_under_load_are_logged_together(
    ask: Callable[..., Telemetry], writes: list[bytes], clock: Clock
) -> None:
    """The first at once, then 16 at a time, and what is left within a tenth of a second, without another request."""
    of = ask(1 + 2 * 16 + 5)
    assert [len(part.splitlines()) for part in writes] == [1, 16, 16]
    [(at, _)] = clock.timers
    assert at == pytest.approx(clock.now + telemetry.MAX_DELAY_SECONDS)
    clock.ring()
    assert len(b"".join(writes).splitlines()) == 38
    assert len(writes) == 4
    assert b'object2vec_request_seconds_count{path="/invocations",status="200"} 38.0' in of.metrics()


def test_numbers_are_asked_for_with_those_that_wait(ask: Callable[..., Telemetry]) -> None:
    assert b'object2vec_request_seconds_count{path="/ping",status="200"} 7.0' in ask(7, "/ping").metrics()


def test_a_write_is_one_that_a_pipe_keeps_whole(ask: Callable[..., Telemetry], writes: list[bytes]) -> None:
    """Blocks of whole lines have at most 4,096 bytes, for any path; a single line may be longer."""
    ask(17, "/" + 800 * "x")
    ask(2, "/" + 5000 * "x").metrics()
    assert [len(part.splitlines()) for part in writes] == [1, 4, 4, 4, 4, 1, 1]
    assert sum(len(part) > 4096 for part in writes) == 2
    assert all(part.endswith(b"\n") for part in writes)


def test_a_process_that_ends_has_told_all(tmp_path: Path) -> None:
    code = (
        "import io, sys; from object2vec.serving.responses import WholeBody\n"
        "from object2vec.serving.telemetry import Telemetry\n"
        "one = Telemetry(log=io.FileIO(1, 'wb', closefd=False))\n"
        "app = one.wrap(lambda environ, start: (start('200 OK', []), WholeBody(b'x'))[1])\n"
        "for _ in range(5): app({'REQUEST_METHOD': 'GET', 'PATH_INFO': '/'}, lambda *_: None)"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert len(done.stdout.splitlines()) == 5
