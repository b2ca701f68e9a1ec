"""A multi-model endpoint over real HTTP: what public tests of such containers expect, from one worker and from four."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from object2vec import artifact
from servers import Server
from small import configured, network_of

pytestmark = pytest.mark.slow

PAIR = {"instances": [{"in0": [1], "in1": [2]}]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five models that differ, where the platform puts them."""
    root = tmp_path_factory.mktemp("ml")
    for number in range(5):
        hyperparameters = configured(output_layer="mean_squared_error")
        directory = root / "models" / f"m{number}" / "model"
        artifact.save(
            directory, network_of(hyperparameters, seed=number), hyperparameters, training={}, vocabularies={}
        )
    return root


def url(root: Path, number: int) -> str:
    return str(root / "models" / f"m{number % 5}" / "model")


def serving(root: Path, workers: int) -> Server:
    environment = {"SAGEMAKER_MULTI_MODEL": "true", "SAGEMAKER_MODEL_SERVER_WORKERS": str(workers)}
    return Server(root / "model", root / f"log{workers}", **environment)


@pytest.fixture(scope="module", params=[1, 4])
def server(root: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    server = serving(root, request.param)
    yield server
    assert server.stop()[0] == 0, server.log.read_text()


def test_what_public_tests_expect(server: Server, root: Path) -> None:
    """Statuses and words, in the order in which those tests ask."""
    assert server.send("GET", "/ping")[0] == 200
    assert server.ask("GET", "/models") == (200, {"models": []})
    missing = {"code": 404, "type": "ModelNotFoundException", "message": "Model not found: m0"}
    assert server.ask("DELETE", "/models/m0") == (404, missing)
    assert server.ask("GET", "/models/m0") == (404, missing)
    assert server.ask("POST", "/models/m0/invoke", PAIR) == (404, missing)
    described = {"modelName": "m0", "modelUrl": url(root, 0)}
    load = {"model_name": "m0", "url": url(root, 0)}
    assert server.ask("POST", "/models", load) == (200, {"status": "Workers scaled"})
    status, refusal = server.ask("POST", "/models", load)
    assert (status, refusal["message"]) == (409, "Model m0 is already registered.")
    assert server.ask("GET", "/models") == (200, {"models": [described]})
    assert server.ask("GET", "/models/m0") == (200, described)
    assert server.ask("POST", "/models", {"model_name": "m1", "url": url(root, 1)})[0] == 200
    scores = [
        {json.dumps(server.ask("POST", f"/models/m{number}/invoke", PAIR)) for _ in range(20)} for number in (0, 1)
    ]
    assert [len(same) for same in scores] == [1, 1]
    assert scores[0] != scores[1]
    for name in ("m0", "m1"):
        assert server.ask("DELETE", f"/models/{name}") == (200, {"status": f'Model "{name}" unregistered'})
    assert {server.ask("POST", "/models/m0/invoke", PAIR)[0] for _ in range(10)} == {404}
    assert server.ask("GET", "/models") == (200, {"models": []})


def test_there_are_no_invocations_without_a_name(server: Server) -> None:
    assert server.ask("POST", "/invocations", PAIR)[0] == 404


def test_what_cannot_be_loaded(server: Server, root: Path, tmp_path: Path) -> None:
    """Refused in one sentence, and nothing is registered."""
    broken = root / "models" / "broken"
    broken.mkdir(exist_ok=True)
    if not (root / "out").is_symlink():
        (root / "out").symlink_to(tmp_path)
    for document in (
        None,
        [],
        {"model_name": "x"},
        {"model_name": 1, "url": url(root, 0)},
        {"model_name": "", "url": url(root, 0)},
        {"model_name": "a/b", "url": url(root, 0)},
        {"model_name": "x" * 2000, "url": url(root, 0)},
        {"model_name": "x", "url": "/etc"},
        {"model_name": "x", "url": f"{root}/models/../../../etc"},
        {"model_name": "x", "url": f"{root}/out"},
        {"model_name": "x", "url": "s3://bucket/model"},
        {"model_name": "x", "url": "a\0b"},
        {"model_name": "x", "url": f"{root}/nothing"},
    ):
        status, refusal = server.ask("POST", "/models", document)
        assert (status, refusal["code"]) == (400, 400), document
    status, refusal = server.ask("POST", "/models", {"model_name": "x", "url": str(broken)})
    assert (status, refusal["type"]) == (500, "ArtifactError")
    assert "config.json" in refusal["message"]
    assert server.ask("GET", "/models") == (200, {"models": []})


@pytest.mark.parametrize("name", ["..", "lock", "%2e%2e", "é", "a b", "'\"<>&;", "%", "x" * 500])
def test_names_are_only_names(server: Server, root: Path, name: str) -> None:
    """A model of any name is loaded as a model, and never read as a file."""
    quoted = "".join(f"%{byte:02x}" for byte in name.encode())
    assert server.ask("POST", "/models", {"model_name": name, "url": url(root, 0)})[0] == 200
    assert server.ask("GET", f"/models/{quoted}")[1]["modelName"] == name
    assert server.ask("POST", f"/models/{quoted}/invoke", PAIR)[0] == 200
    assert server.ask("DELETE", f"/models/{quoted}")[0] == 200


def mapped(server: Server, model: str) -> int:
    """How many workers have a model's weights in memory."""
    return sum(f"/{model}/model/model.safetensors" in Path(f"/proc/{pid}/maps").read_text() for pid in server.workers())


def test_memory_is_free_when_a_model_is_unloaded(server: Server, root: Path) -> None:
    """In every worker, as soon as the reply is there."""
    assert server.ask("POST", "/models", {"model_name": "m3", "url": url(root, 3)})[0] == 200
    for _ in range(40):
        assert server.ask("POST", "/models/m3/invoke", PAIR)[0] == 200
    assert mapped(server, "m3") >= 1
    assert server.ask("DELETE", "/models/m3")[0] == 200
    assert mapped(server, "m3") == 0


class Client(threading.Thread):
    """Loads, asks and unloads models at random beside others, and looks whether what it is told can be."""

    def __init__(self, server: Server, root: Path, models: int, times: int, seed: int) -> None:
        super().__init__()
        self.server, self.root, self.models, self.times = server, root, models, times
        self.random = random.Random(seed)
        self.wanted: dict[int, set[int]] = {0: {200, 409}, 1: {200, 404}, 2: {200, 404}, 3: {200}}
        self.faults: list[Any] = []
        self.done = [0, 0, 0, 0]

    def run(self) -> None:
        connection = self.server.connection()
        while self.done[0] + self.done[1] < self.times:
            what, number = self.random.choices(range(4), (4, 4, 4, 1))[0], self.random.randrange(self.models)
            method, path, document = [
                ("POST", "/models", {"model_name": f"m{number}", "url": url(self.root, number)}),
                ("DELETE", f"/models/m{number}", None),
                ("POST", f"/models/m{number}/invoke", PAIR),
                ("GET", "/models", None),
            ][what]
            try:
                connection.request(method, path, None if document is None else json.dumps(document))
                reply = connection.getresponse()
                body = reply.read()
            except (OSError, http.client.HTTPException) as error:
                self.faults.append((method, path, repr(error)))
                return
            if reply.status not in self.wanted[what]:
                self.faults.append((method, path, reply.status, body))
            if reply.status == 200:
                self.done[what] += 1
                if what == 2:
                    self.check(number, body)
        connection.close()

    def check(self, number: int, body: bytes) -> None:
        if json.loads(body) != SCORES[number % 5]:
            self.faults.append((number, body))


SCORES: dict[int, Any] = {}


def storm(server: Server, root: Path, *, models: int, times: int, clients: int) -> None:
    SCORES.clear()
    for number in range(5):
        server.ask("POST", "/models", {"model_name": f"m{number}", "url": url(root, number)})
        SCORES[number] = server.ask("POST", f"/models/m{number}/invoke", PAIR)[1]
        server.ask("DELETE", f"/models/m{number}")
    threads = [Client(server, root, models, times // clients, seed) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert [fault for thread in threads for fault in thread.faults] == []
    for entry in server.ask("GET", "/models")[1]["models"]:
        assert server.ask("DELETE", f"/models/{entry['modelName']}")[0] == 200
    assert [mapped(server, f"m{number}") for number in range(5)] == [0] * 5
    assert server.ask("GET", "/models") == (200, {"models": []})


def test_loads_and_unloads_beside_one_another(server: Server, root: Path) -> None:
    storm(server, root, models=5, times=60, clients=4)


def test_fifty_models_five_hundred_times_by_eight_clients(server: Server, root: Path) -> None:
    """Nothing but what the order of requests explains, no wrong scores, and no memory held at the end."""
    storm(server, root, models=50, times=1000, clients=8)


def test_a_worker_that_dies_holds_no_model(root: Path) -> None:
    """SIGKILL of one that has a model in memory: it is unloaded all the same, and a new worker answers."""
    server = serving(root, 2)
    try:
        assert server.ask("POST", "/models", {"model_name": "m0", "url": url(root, 0)})[0] == 200
        for pid in server.workers():
            os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + 120
        status = 0
        while status != 200 and time.monotonic() < until:
            try:
                status, _ = server.ask("POST", "/models/m0/invoke", PAIR)
            except OSError:
                time.sleep(0.1)
        assert status == 200
        assert server.ask("DELETE", "/models/m0")[0] == 200
        assert mapped(server, "m0") == 0
    finally:
        server.stop()
