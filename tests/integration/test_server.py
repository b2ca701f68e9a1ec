"""The real server, as `object2vec serve` starts it with gunicorn, answers requests over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import object2vec
from object2vec import artifact
from object2vec.serving.server import SHUTDOWN_SECONDS
from raw_models import film_schema, save_model, write_index
from servers import COMMAND, Server, becomes, free_port
from small import configured, network_of

JSON, JSON_LINES = "application/json", "application/jsonlines"
PAIRS = [([n % 9, n % 7], [n % 5]) for n in range(40)]
BODY = json.dumps({"instances": [{"in0": in0, "in1": in1} for in0, in1 in PAIRS]}).encode()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ml") / "model"
    hyperparameters = configured(network="hcnn")
    artifact.save(directory, network_of(hyperparameters), hyperparameters, training={}, vocabularies={})
    return directory


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    server = Server(model, model.parent / "log", SAGEMAKER_MAX_PAYLOAD_IN_MB="1")
    yield server
    if server.process.poll() is None:
        server.stop()


def test_served_scores_equal_those_of_the_library(server: Server, model: Path) -> None:
    """They are the same float32 bits, as JSON and as JSON Lines."""
    wanted = object2vec.load(model).score(PAIRS)
    status, body = server.send("POST", "/invocations", BODY, content_type=JSON)
    assert status == 200
    served = [prediction["scores"] for prediction in json.loads(body)["predictions"]]
    assert np.array(served, np.float32).tobytes() == wanted.tobytes()
    lines = b"\n".join(json.dumps(instance).encode() for instance in json.loads(BODY)["instances"])
    status, body = server.send("POST", "/invocations", lines, content_type=JSON_LINES)
    served = [json.loads(line)["scores"] for line in body.splitlines()]
    assert np.array(served, np.float32).tobytes() == wanted.tobytes()


def test_reply_has_the_keys_and_nesting_of_the_builtin(server: Server) -> None:
    """The reply is compact JSON; a request without Content-Type is read as JSON."""
    status, body = server.send("POST", "/invocations", b'{"instances": [{"in0":[3],"in1":[8]}]}')
    assert (status, list(json.loads(body)), b" " in body) == (200, ["predictions"], False)
    [prediction] = json.loads(body)["predictions"]
    assert (list(prediction), len(prediction["scores"])) == (["scores"], 2)


def test_boto3_with_an_endpoint_url(server: Server, model: Path) -> None:
    """boto3 sends signed requests for an endpoint of any name."""
    boto3 = pytest.importorskip("boto3")
    client = boto3.client(
        "sagemaker-runtime",
        endpoint_url=f"http://127.0.0.1:{server.port}",
        region_name="us-east-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
    )
    wanted = object2vec.load(model).score(PAIRS)
    try:
        reply = client.invoke_endpoint(EndpointName="my-endpoint", Body=BODY, CustomAttributes="trace=7,mode=canary")
        served = [prediction["scores"] for prediction in json.loads(reply["Body"].read())["predictions"]]
        assert np.array(served, np.float32).tobytes() == wanted.tobytes()
        assert (reply["ContentType"], reply["CustomAttributes"]) == (JSON, "trace=7,mode=canary")
        reply = client.invoke_endpoint(
            EndpointName="e", Body=b'{"in0": [1]}', ContentType=JSON_LINES, Accept="application/x-ndjson"
        )
        assert list(json.loads(reply["Body"].read())) == ["embeddings"]
        with pytest.raises(client.exceptions.ClientError, match=r"\(400\).*: instances\[0\]: in0\[0\] is 1.5, wanted"):
            client.invoke_endpoint(EndpointName="e", Body=b'{"instances": [{"in0": [1.5]}]}')
    finally:
        client.close()


@pytest.mark.parametrize("accept", [JSON, JSON_LINES, "application/x-npy"])
@pytest.mark.parametrize("count", [1, 512, 513, 9430])
def test_replies_have_a_length(server: Server, accept: str, count: int) -> None:
    """Asynchronous endpoints need Content-Length; with object2vec-stream=1, long replies are chunked instead."""
    body = json.dumps({"instances": [{"in0": [n % 9], "in1": [n % 7]} for n in range(count)]}).encode()
    replies = {}
    for stream in "01":
        connection = server.connection()
        attributes = {"X-Amzn-SageMaker-Custom-Attributes": f"trace=7;object2vec-stream={stream}"}
        connection.request("POST", "/invocations", body, {"Accept": accept} | attributes)
        reply = connection.getresponse()
        chunked = stream == "1" and count > 512
        assert reply.getheader("Transfer-Encoding") == ("chunked" if chunked else None)
        replies[stream] = reply.read()
        assert reply.getheader("Content-Length") == (None if chunked else str(len(replies[stream])))
        connection.close()
    assert replies["0"] == replies["1"]


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("POST", "/invocations", b"[]", {}, 400),
        ("POST", "/endpoints/e/invocations-response-stream", BODY, {}, 404),
        ("POST", "/invocations", b'{"instances": ' + b"[" * 100_000, {}, 400),
        ("GET", "/nothing", None, {}, 404),
        ("GET", "/invocations", None, {}, 405),
        ("POST", "/invocations", BODY, {"accept": "text/csv"}, 406),
        ("POST", "/invocations", b" " * 30_000_000, {"connection": "close"}, 413),
        ("POST", "/invocations", b"1,2,3", {"content_type": "text/csv"}, 415),
    ],
)
def test_refused_requests_get_a_json_error(
    server: Server, method: str, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    """The error is one sentence; a client that sends its whole body before it reads gets it too."""
    got, reply = server.send(method, path, body, **headers)
    assert got == status
    document = json.loads(reply)
    assert document["code"] == status
    assert document["message"]


def test_chunked_body_beyond_the_limit_is_refused(server: Server) -> None:
    """A body of unknown length is not truncated at the limit."""
    connection = server.connection()
    connection.request("POST", "/invocations", iter([BODY, *[b" " * 2**20] * 3]), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def begin(server: Server) -> http.client.HTTPConnection:
    """Send the head and the first bytes of an invocation."""
    connection = server.connection()
    connection.putrequest("POST", "/invocations")
    connection.putheader("Content-Length", str(len(BODY)))
    connection.endheaders()
    connection.send(BODY[:100])
    return connection


def test_ping_is_answered_during_many_invocations(server: Server) -> None:
    """Health is answered while many more invocations than workers wait for the rest of their bodies."""
    connections = [begin(server) for _ in range(40)]
    assert becomes(server, 40)
    for _ in range(4):
        assert server.send("GET", "/ping") == (200, b"")
    for connection in connections:
        connection.send(BODY[100:])
    assert {connection.getresponse().status for connection in connections} == {200}
    for connection in connections:
        connection.close()


def test_pending_requests_are_counted(server: Server) -> None:
    """Unfinished requests of all workers count until they end, or their worker ends."""
    connections = [begin(server) for _ in range(8)]
    assert becomes(server, 8)
    for connection in connections[:5]:
        connection.send(BODY[100:])
        assert connection.getresponse().status == 200
    assert becomes(server, 3)
    for worker in server.workers():
        os.kill(worker, signal.SIGKILL)
    assert becomes(server, 0)
    for connection in connections:
        connection.close()
    server.wait()


@pytest.mark.slow
def test_sigterm_lets_requests_in_progress_finish(model: Path, tmp_path: Path) -> None:
    """A request whose body is incomplete at SIGTERM is answered; idle connections do not delay the end."""
    server = Server(model, tmp_path / "log")
    kept, begun = server.connection(), begin(server)
    kept.request("GET", "/ping")
    kept.getresponse().read()
    assert becomes(server, 1)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    begun.send(BODY[100:])
    assert begun.getresponse().status == 200
    started = time.monotonic()
    assert server.process.wait(60) == 0, server.log.read_text()
    assert time.monotonic() - started < SHUTDOWN_SECONDS
    assert "Traceback" not in server.log.read_text()
    kept.close()
    begun.close()


def fails(model: Path, **environment: str) -> str:
    """Return what `object2vec serve` prints for a server that must not start."""
    command = [COMMAND, "serve", "--model", str(model), "--port", str(free_port())]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode not in (0, -signal.SIGTERM)
    assert "Traceback" not in done.stderr
    return done.stderr


def test_missing_model_ends_the_server(tmp_path: Path) -> None:
    assert fails(tmp_path).startswith(f"object2vec: error: {tmp_path}: no model, wanted a directory with config.json")


def test_damaged_weights_end_the_server(model: Path, tmp_path: Path) -> None:
    """The error is one sentence without a traceback."""
    (tmp_path / "config.json").write_bytes((model / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:500])
    assert f"{tmp_path}/model.safetensors: truncated, damaged or missing" in fails(tmp_path)


@pytest.mark.slow
def test_model_of_a_newer_format_ends_the_server(model: Path, tmp_path: Path) -> None:
    """The sentence says to use a newer version."""
    config = json.loads((model / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"format_version": config["format_version"] + 1}))
    assert "use a newer object2vec" in fails(tmp_path)


def test_unknown_preferred_mode_ends_the_server(model: Path) -> None:
    sentence = "INFERENCE_PREFERRED_MODE is 'fast', wanted one of classification, regression, embedding"
    assert fails(model, INFERENCE_PREFERRED_MODE="fast") == f"object2vec: error: {sentence}\n"


@pytest.mark.slow
def test_workers_answer_top_k_from_one_index(tmp_path: Path) -> None:
    """All workers give the library's answers, also many at a time, and a damaged index ends the server at its start."""
    model = save_model(tmp_path / "model", film_schema())
    write_index(model, "in1", {"film": ["a", "b", "c"], "genres": ["fun", "war", ""], "year": [1990, 2000, 2010]})
    wanted = [object2vec.load(model).recommend(user, k=2, where="year > 1990") for user in range(1, 9)]
    bodies = [json.dumps({"instances": [{"in0": user, "top_k": 2, "filter": "year > 1990"}]}) for user in range(1, 9)]
    server = Server(model, tmp_path / "log")
    try:
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda n: server.send("POST", "/invocations", bodies[n % 8].encode()), range(200)))
        for number, (status, body) in enumerate(replies):
            [answer] = json.loads(body)["predictions"]
            assert status == 200
            for found, own in zip(answer["recommendations"], wanted[number % 8], strict=True):
                assert found == own | {"score": pytest.approx(own["score"])}
    finally:
        server.stop()
    next(model.glob("index-in1.*.vectors.npy")).unlink()
    with pytest.raises(AssertionError, match="missing or truncated; build it again with `object2vec index`"):
        Server(model, tmp_path / "log")
