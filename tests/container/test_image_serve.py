"""`serve` in a container: HTTP replies, platform variables, a read-only model, and a quick stop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from containers import Container, OptMl, Start, Trained, docker

pytestmark = pytest.mark.docker

PAIR = {"in0": [1, 2], "in1": [3]}
JSON = "application/json"
JSON_LINES = "application/jsonlines"


@pytest.fixture(scope="module")
def model(trained: Trained) -> str:
    """Return the read-only mount of the trained model, as hosting mounts it."""
    assert trained.exit_code == 0, trained.log
    return f"{trained.opt_ml.model}:/opt/ml/model:ro"


@pytest.fixture(scope="module")
def server(start: Start, model: str) -> Iterator[Container]:
    container = start("--volume", model, "--publish", "127.0.0.1::8080", command=("serve",)).until_ping()
    yield container
    container.stop()


def instances(*records: dict[str, list[int]]) -> bytes:
    return json.dumps({"instances": records}).encode()


def test_json_pair_is_scored(server: Container) -> None:
    reply = server.send("/invocations", instances(PAIR, PAIR), JSON, accept=JSON)
    assert reply.status == 200, reply.body
    assert reply.content_type.startswith(JSON)
    first, second = (prediction["scores"] for prediction in reply.json()["predictions"])
    assert first == pytest.approx(second, abs=1e-5)
    assert sum(first) == pytest.approx(1, abs=1e-5)


def test_json_lines_reply_has_one_line_per_instance(server: Container) -> None:
    body = "\n".join(json.dumps(record) for record in (PAIR, {"in0": [1]}, {"in1": [3]})).encode()
    reply = server.send("/invocations", body, JSON_LINES, accept=JSON_LINES)
    assert reply.status == 200, reply.body
    pair, left, right = reply.lines()
    assert len(pair["scores"]) == 2
    assert len(left["embeddings"]) == len(right["embeddings"]) == 8


def test_invalid_request_gets_a_one_sentence_error(server: Container) -> None:
    reply = server.send("/invocations", instances({"in0": [1], "in1": [1_000_000]}), JSON)
    assert reply.status == 400
    assert b"Traceback" not in reply.body
    assert "1000000" in json.dumps(reply.json())


def test_unknown_content_type_is_rejected(server: Container) -> None:
    assert server.send("/invocations", b"1,2,3", "text/csv").status == 415


def test_sigterm_stops_the_server_with_status_0(start: Start, model: str) -> None:
    container = start("--volume", model, "--publish", "127.0.0.1::8080", command=("serve",)).until_ping()
    code, seconds = container.stop()
    assert code == 0, container.log()
    assert seconds < 25  # the grace period for requests in progress, of which there are none


def test_preferred_mode_embeds_pairs(start: Start, model: str) -> None:
    container = start(
        *("--volume", model, "--publish", "127.0.0.1::8080", "--env", "INFERENCE_PREFERRED_MODE=embedding"),
        command=("serve",),
    ).until_ping()
    [prediction] = container.send("/invocations", instances(PAIR), JSON).json()["predictions"]
    assert {side: len(vector) for side, vector in prediction["embeddings"].items()} == {"in0": 8, "in1": 8}
    container.stop()


def test_unknown_preferred_mode_does_not_start(start: Start, model: str) -> None:
    container = start("--volume", model, "--env", "INFERENCE_PREFERRED_MODE=fast", command=("serve",))
    assert container.wait(300) != 0
    assert "INFERENCE_PREFERRED_MODE" in container.log()
    assert "Traceback" not in container.log()


def test_port_is_set_by_the_platform(start: Start, model: str) -> None:
    container = start(
        *("--volume", model, "--publish", "127.0.0.1::9123", "--env", "SAGEMAKER_BIND_TO_PORT=9123"), command=("serve",)
    ).until_ping(9123)
    assert container.send("/invocations", instances(PAIR), JSON, port=9123).status == 200
    container.stop()


def test_serves_without_a_network(start: Start, model: str) -> None:
    container = start("--network", "none", "--volume", model, command=("serve",))
    request = (
        "import time, urllib.request as u\n"
        "for _ in range(200):\n"
        "    try: u.urlopen('http://127.0.0.1:8080/ping'); break\n"
        "    except OSError: time.sleep(0.2)\n"
        f"r = u.Request('http://127.0.0.1:8080/invocations', {instances(PAIR)!r}, {{'Content-Type': '{JSON}'}})\n"
        "print(u.urlopen(r).read().decode())"
    )
    assert len(json.loads(container.run("python", "-c", request))["predictions"][0]["scores"]) == 2
    container.stop()


def test_missing_model_fails_with_a_message(start: Start, tmp_path: Path) -> None:
    empty = OptMl(tmp_path / "ml").model
    container = start("--volume", f"{empty}:/opt/ml/model:ro", command=("serve",))
    assert container.wait(300) != 0
    assert "/opt/ml/model" in container.log()
    assert "Traceback" not in container.log()


def test_multi_model_endpoint_returns_507_without_memory(start: Start, trained: Trained) -> None:
    """With less memory than all models need, loading gives 507 while others still answer."""
    container = start(
        *("--volume", f"{trained.opt_ml.model}:/opt/ml/models/a/model:ro", "--publish", "127.0.0.1::8080"),
        *("--env", "SAGEMAKER_MULTI_MODEL=true", "--env", "SAGEMAKER_MODEL_SERVER_WORKERS=2", "--memory", "600m"),
        command=("serve",),
    ).until_ping()
    assert container.send("/models").json() == {"models": []}
    statuses = []
    while len(statuses) < 200 and statuses[-1:] != [507]:
        load = {"model_name": f"m{len(statuses)}", "url": "/opt/ml/models/a/model"}
        statuses.append(container.send("/models", json.dumps(load).encode(), JSON).status)
    assert set(statuses[:-1]) == {200}
    assert statuses[-1] == 507
    for number in range(len(statuses) - 1):
        assert container.send(f"/models/m{number}/invoke", instances(PAIR), JSON).status == 200
    assert container.stop()[0] == 0


def test_memory_limit_never_ends_a_worker(start: Start, model: str) -> None:
    """Concurrent bodies of maximum size need more memory than there is.

    Each gets a reply or an error. Small requests are answered at the same time.
    """
    limit = ("--memory", "420m", "--memory-swap", "420m")
    container = start(
        *limit, "--volume", model, "--publish", "127.0.0.1::8080", "--env", "SAGEMAKER_MAX_PAYLOAD_IN_MB=100",
        command=("serve",),
    ).until_ping()  # fmt: skip
    plain = instances(PAIR)[:-2] + b"," + b",".join([b'{"in0":[1,2],"in1":[3]}'] * 700_000) + b"]}"
    odd = b'{"instances":[' + b",".join([b'{"in0":[1.0,2],"in1":[3]}'] * 400_000) + b"]}"
    bodies = [plain, plain[:-2].ljust(25 * 2**20) + b"]}", odd, b" " * 2**24 + odd, instances(*[PAIR] * 100_000)]
    before = docker("top", container.id, "-eo", "pid").stdout
    with ThreadPoolExecutor(8) as pool:
        large = [pool.submit(container.send, "/invocations", body, JSON) for body in bodies * 3]
        small = [pool.submit(container.send, "/invocations", instances(PAIR), JSON) for _ in range(100)]
    found = {task.result().status for task in large}
    assert found <= {200, 400, 413, 503}
    assert {413, 503} & found
    assert {task.result().status for task in small} == {200}
    assert all("message" in task.result().json() for task in large if task.result().status != 200)
    assert container.send("/invocations", instances(*[PAIR] * 100_000), JSON).status == 200
    assert docker("top", container.id, "-eo", "pid").stdout == before
