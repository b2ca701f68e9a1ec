"""The register of a multi-model endpoint: shared by workers, each of which is an object of its own here."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from flask.testing import FlaskClient

from object2vec import artifact
from object2vec.errors import ArtifactError, ModelExistsError, ModelNotFoundError, NoRoomError, RequestError
from object2vec.serving import model_registry as module
from object2vec.serving.application import create_app
from object2vec.serving.model_registry import MODEL_OVERHEAD_BYTES, VOCABULARY_BYTES, ModelRegistry
from object2vec.serving.predictor import Predictor
from object2vec.serving.raw_values import KNOWN_VALUES_BYTES
from raw_models import film_schema, write_index
from small import configured, network_of


@pytest.fixture
def model(tmp_path: Path) -> str:
    hyperparameters = configured()
    directory = tmp_path / "ml" / "models" / "a" / "model"
    artifact.save(directory, network_of(hyperparameters), hyperparameters, training={}, vocabularies={})
    return str(directory)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "register"
    directory.mkdir()
    return directory


def worker(directory: Path, capacity: int = 2**40) -> ModelRegistry:
    root = directory.parent / "ml"
    return ModelRegistry(directory=directory, root=root, capacity=capacity, workers=1, open=Predictor.load)


def test_model_loaded_by_one_worker_is_known_to_all(directory: Path, model: str) -> None:
    one, two = worker(directory), worker(directory)
    one.load("a", model)
    np.testing.assert_array_equal(one.predictor("a").score([([1], [2])]), two.predictor("a").score([([1], [2])]))
    assert one.predictor("a") is one.predictor("a")
    assert two.describe("a") == {"modelName": "a", "modelUrl": model}
    with pytest.raises(ModelExistsError, match=r"^Model a is already registered\.$"):
        two.load("a", model)


def test_model_unloaded_by_one_worker_is_gone_from_all(directory: Path, model: str) -> None:
    """When `unload` returns, all workers have freed the weights, without garbage collection."""
    one, two = worker(directory), worker(directory)
    one.load("a", model)
    weights = [weakref.ref(of.predictor("a").network) for of in (one, two)]
    gc.disable()
    try:
        one.unload("a")
        assert [weight() for weight in weights] == [None, None]
    finally:
        gc.enable()
    for of in (one, two):
        with pytest.raises(ModelNotFoundError, match=r"^Model not found: a$"):
            of.predictor("a")


def test_unloading_waits_for_requests(directory: Path, model: str) -> None:
    """Requests that use the model may finish. Meanwhile it is not found, and its memory stays reserved."""
    one, two = worker(directory), worker(directory)
    one.load("a", model)
    used: Predictor | None = two.predictor("a")
    unloading = threading.Thread(target=one.unload, args=("a",))
    unloading.start()
    time.sleep(4 * module.POLL_SECONDS)
    assert unloading.is_alive()
    with pytest.raises(ModelNotFoundError):
        two.predictor("a")
    assert len(one._entries(unloading=True)) == 1
    assert used is not None
    del used
    unloading.join(60)
    assert not unloading.is_alive()
    assert one._entries(unloading=True) == []


def test_name_of_an_unloaded_model_can_be_reused(directory: Path, model: str) -> None:
    """The other worker answers with the new model, never with the old one."""
    other = Path(model).parents[1] / "b" / "model"
    hyperparameters = configured()
    artifact.save(other, network_of(hyperparameters, seed=2), hyperparameters, training={}, vocabularies={})
    one, two = worker(directory), worker(directory)
    found = []
    for path in (model, str(other)):
        one.load("a", path)
        found.append(two.predictor("a").score([([1], [2])]))
        one.unload("a")
    assert not np.array_equal(*found)


def test_model_beyond_the_memory_is_refused(directory: Path, model: str) -> None:
    """The status is 507 before memory runs out; an unload makes room again."""
    weights = (
        (Path(model) / "model.safetensors").stat().st_size
    )  # a small model: its head and what is kept of its tokens are no more
    size = weights + MODEL_OVERHEAD_BYTES + 2 * weights
    one = worker(directory, capacity=2 * size)
    one.load("a", model)
    one.load("b", model)
    with pytest.raises(NoRoomError, match=rf"^no memory for model c: {size} bytes are wanted where 0 of {2 * size}"):
        one.load("c", model)
    one.unload("a")
    one.load("c", model)


def test_vocabularies_of_a_schema_are_counted(directory: Path, model: str) -> None:
    """Each worker has a copy of them."""
    film_schema().save(Path(model))
    words = Path(model) / "in0.vocabulary.tsv"
    words.write_text(words.read_text() + "".join(f"user=u{number}\t1\n" for number in range(10_000)))
    one = worker(directory, capacity=10_000 * 12 * VOCABULARY_BYTES + KNOWN_VALUES_BYTES)
    with pytest.raises(NoRoomError, match=r"^no memory for model a"):
        one.load("a", model)
    words.write_text("user=1\t1\n")
    one.load("a", model)
    assert one.predictor("a").schema


def test_indexes_are_counted_and_opened(directory: Path, model: str) -> None:
    """Once for all workers; the results of filters are each worker's own."""
    before = worker(directory)._size(Path(model))
    write_index(Path(model), "in1", {"tokens": [[1], [2, 3]]})
    size = sum(file.stat().st_size for file in Path(model).glob("index-*"))
    assert worker(directory)._size(Path(model)) == before + 2 * size
    client = create_app(worker(directory)).test_client()
    client.post("/models", json={"model_name": "a", "url": model})
    reply = client.post("/models/a/invoke", json={"instances": [{"in0": [1], "top_k": 5}]})
    [answer] = reply.get_json()["predictions"]
    assert sorted(record["tokens"] for record in answer["recommendations"]) == [[1], [2, 3]]


def test_failed_load_leaves_no_entry(directory: Path, model: str, tmp_path: Path) -> None:
    one = worker(directory)
    (tmp_path / "ml" / "empty").mkdir()
    with pytest.raises(ArtifactError, match=r"config\.json"):
        one.load("a", str(tmp_path / "ml" / "empty"))
    for url in ("/etc", str(tmp_path), "relative", "", "\0", f"{model}/config.json"):
        with pytest.raises(RequestError, match="wanted a model directory under"):
            one.load("a", url)
    assert one.page() == {"models": []}
    assert [file.name for file in directory.iterdir()] == ["lock"]


def test_pages_list_each_model_once(directory: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds even if models are loaded between two pages."""
    monkeypatch.setattr(module, "PAGE_SIZE", 3)
    one = worker(directory)
    names = {f"m{number}" for number in range(5)}
    for name in names:
        one.load(name, model)
    first = one.page()
    one.load("new", model)
    second = one.page(first["nextPageToken"])
    assert "nextPageToken" not in second
    listed = [entry["modelName"] for page in (first, second) for entry in page["models"]]
    assert len(first["models"]) == 3
    assert set(listed) - {"new"} == names
    assert len(listed) == len(set(listed))


def test_http_interface(directory: Path, model: str) -> None:
    """It is the platform's interface, with the words of multi-model-server."""
    client: FlaskClient = create_app(worker(directory)).test_client()
    body = '{"instances": [{"in0": [1], "in1": [2]}]}'
    load = {"model_name": "a", "url": model}
    missing = {"code": 404, "type": "ModelNotFoundException", "message": "Model not found: a"}
    assert client.get("/models").json == {"models": []}
    assert client.post("/models/a/invoke", data=body).json == missing
    assert client.delete("/models/a").json == missing
    assert client.post("/models", json=load).json == {"status": "Workers scaled"}
    assert client.post("/models", json=load).status_code == 409
    assert client.get("/models/a").json == {"modelName": "a", "modelUrl": model}
    assert list(client.post("/models/a/invoke", data=body).get_json()) == ["predictions"]
    assert client.get("/models/a/invoke").status_code == 405
    elsewhere = client.post("/invocations", data=body)
    assert elsewhere.status_code == 404
    assert "/models/<name>/invoke" in elsewhere.json["message"]
    assert client.delete("/models/a").json == {"status": 'Model "a" unregistered'}
    assert client.post("/models", data="{").status_code == 400
    full = create_app(worker(directory, capacity=0)).test_client().post("/models", json=load)
    assert (full.status_code, full.get_json()["code"]) == (507, 507)


def test_endpoint_path_takes_the_model_from_a_header(directory: Path, model: str) -> None:
    """boto3 sends InvokeEndpoint with a TargetModel this way."""
    models = worker(directory)
    client = create_app(models).test_client()
    body = '{"instances": [{"in0": [1], "in1": [2]}]}'
    for name in ("a", "a.tar.gz", "é.tar.gz"):
        models.load(name, model)
        header = {"X-Amzn-SageMaker-Target-Model": name.encode().decode("latin-1")}
        reply = client.post("/endpoints/e/invocations", data=body, headers=header)
        assert (reply.status_code, list(reply.get_json())) == (200, ["predictions"])
    reply = client.post("/endpoints/e/invocations", data=body, headers={"X-Amzn-SageMaker-Target-Model": "b"})
    assert (reply.status_code, reply.get_json()["message"]) == (404, "Model not found: b")
    reply = client.post("/endpoints/e/invocations", data=body)
    assert reply.status_code == 400
    assert reply.get_json()["message"] == "no X-Amzn-SageMaker-Target-Model, wanted the name of a loaded model"
