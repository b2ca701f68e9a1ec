"""The server answers as its description of the endpoints says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from object2vec import artifact
from object2vec.data.media_types import JSON_LINES_ALIASES
from object2vec.serving import application
from object2vec.serving.application import create_app
from object2vec.serving.model_registry import ModelRegistry
from object2vec.serving.predictor import Predictor
from raw_models import write_index
from small import configured, network_of

API: dict[str, Any] = json.loads(Path(application.__file__).with_name("openapi.json").read_text())
MULTI = {path for path in API["paths"] if path.startswith("/models")}

#: The path that is there on both kinds of servers.
BOTH = "/endpoints/{name}/invocations"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ml") / "model"
    hyperparameters = configured()
    artifact.save(directory, network_of(hyperparameters), hyperparameters, training={}, vocabularies={})
    write_index(directory, "in1", {"tokens": [[1], [2, 3]], "year": [1990, None]})
    return directory


@pytest.fixture(scope="module")
def single(directory: Path) -> Flask:
    return create_app(Predictor.load(directory), max_payload=10_000)


@pytest.fixture(scope="module")
def multi(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Flask:
    register = tmp_path_factory.mktemp("register")
    models = ModelRegistry(directory=register, root=directory.parent, capacity=2**30, workers=1, open=Predictor.load)
    models.load("m", str(directory))
    return create_app(models, max_payload=10_000)


def operations() -> Iterator[tuple[str, str]]:
    for path, item in API["paths"].items():
        yield from ((path, method.upper()) for method in item if method in {"get", "post", "delete"})


def test_every_route_is_described(single: Flask, multi: Flask) -> None:
    """With its methods; HEAD and OPTIONS come of themselves."""
    routes = {
        (re.sub("<(.*?)>", r"{\1}", rule.rule), method)
        for app in (single, multi)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert routes == set(operations())


def test_aliases_are_described() -> None:
    """Each name of JSON Lines, of bodies and of replies."""
    for path in ("/invocations", BOTH, "/models/{name}/invoke"):
        operation = API["paths"][path]["post"]
        assert set(JSON_LINES_ALIASES) <= set(operation["requestBody"]["content"])
        assert set(JSON_LINES_ALIASES) <= set(operation["responses"]["200"]["content"])


tokens = st.lists(st.integers(-1, 12) | st.integers() | st.floats(-1, 12), max_size=8) | st.none()
top_k = {
    "top_k": st.integers(0, 3),
    "neighbors": st.booleans() | st.none() | tokens,
    "exclude": st.lists(tokens, max_size=3) | tokens,
    "filter": st.sampled_from(["year > 1980", "year", "tokens = 1", "x", ""]) | st.text(max_size=9) | tokens,
}
sides = st.dictionaries(st.sampled_from(["in0", "in1", "label"]), tokens | st.text(max_size=3))
searches = st.fixed_dictionaries({}, optional={**top_k, "in0": tokens, "in1": tokens})
records = st.lists(sides | searches, max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
bodies = (
    st.fixed_dictionaries({"instances": records | values}).map(json.dumps).map(str.encode)
    | st.fixed_dictionaries({"model_name": values, "url": values}).map(json.dumps).map(str.encode)
    | records.map(lambda rows: "\n".join(map(json.dumps, rows)).encode())
    | st.binary(max_size=50)
    | st.just(b" " * 20_000)
)
latin = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
types = (
    st.sampled_from(["application/json", "application/jsonlines", "text/csv", "*/*", "application/json;q=0.1"])
    | st.sampled_from([*JSON_LINES_ALIASES, "*", "application/octet-stream", "text/plain", "application/x-npy"])
    | latin
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "Content-Type": types | st.just("application/json; infer_max_seqlens=3,4"),
        "Accept": types,
        "Content-Encoding": st.sampled_from(["gzip", "identity"]),
        "X-Amzn-SageMaker-Custom-Attributes": latin
        | st.sampled_from(["object2vec-mode=embedding", "mode=x", "object2vec-warnings=1", "object2vec-stream=1"])
        | st.sampled_from(["object2vec-top-k=2", "object2vec-top-k=1,object2vec-neighbors=1,object2vec-digits=2"]),
        "X-Amzn-SageMaker-Target-Model": st.sampled_from(["m", "n", ""]),
        "X-Amzn-SageMaker-Inference-Id": latin,
    },
)


@pytest.mark.parametrize(("path", "method"), list(operations()))
@given(body=bodies, given_headers=headers, name=st.just("m") | st.text(min_size=1, max_size=9), query=latin)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors], max_examples=25)
def test_any_request_is_answered_as_described(
    single: Flask,
    multi: Flask,
    path: str,
    method: str,
    body: bytes,
    given_headers: dict[str, str],
    name: str,
    query: str,
) -> None:
    """A status that the description has and no fault of the server's, in the type that it says."""
    item = API["paths"][path]
    if method == "DELETE" and name == "m":
        name = "n"
    client = (multi if path in MULTI or (path == BOTH and name == "m") else single).test_client()
    reply = client.open(
        path.replace("{name}", name.replace("/", "").replace("?", "") or "x").strip(),
        method=method,
        data=body if method == "POST" else None,
        headers=given_headers,
        query_string={"next_page_token": query},
        buffered=True,
    )
    assert reply.status_code < 500, reply.data
    if reply.status_code in (404, 405, 308) and (path in MULTI or path == BOTH):
        return  # a name can make another path of it
    described = item[method.lower()]["responses"]
    assert str(reply.status_code) in described
    wanted = described[str(reply.status_code)].get("content")
    if wanted is not None:
        assert reply.content_type.partition(";")[0] in wanted
    if reply.status_code >= 400:
        assert list(json.loads(reply.data)) == ["code", "type", "message"]
