"""The HTTP surface: routes, statuses and bodies, over the test client and a small real model."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from torch import Tensor
from werkzeug.test import TestResponse

from object2vec.errors import AlgorithmError, ArtifactError, Object2VecError
from object2vec.model.network import Network
from object2vec.serving import spool
from object2vec.serving.application import create_app
from object2vec.serving.forward import MAX_BATCH_ROWS
from object2vec.serving.headers import ATTRIBUTES
from object2vec.serving.instances import Instances
from object2vec.serving.invocations import MAX_INVOCATIONS
from object2vec.serving.memory_budget import COLUMN_BYTES, MemoryBudget
from object2vec.serving.predictor import Predictor
from object2vec.serving.query import Query
from small import configured, network_of

JSON, JSON_LINES, NPY = "application/json", "application/jsonlines", "application/x-npy"
PAIR = '{"instances": [{"in0": [1, 2], "in1": [3]}]}'
LINE = '{"in0": [1, 2], "in1": [3]}'


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    hyperparameters = configured()
    return Predictor(network_of(hyperparameters), hyperparameters, directory=Path("nowhere"))


@pytest.fixture
def client(predictor: Predictor) -> FlaskClient:
    return create_app(predictor, max_payload=1000, concurrency=4).test_client()


def invoke(client: FlaskClient, body: str | bytes = PAIR, **headers: str) -> TestResponse:
    """POST a body with headers; `content_type=` sets Content-Type."""
    return client.post("/invocations", data=body, headers={name.replace("_", "-"): v for name, v in headers.items()})


def error_body(reply: TestResponse, status: int, kind: str) -> str:
    """Return the sentence of an error; each error is JSON of the same shape."""
    assert reply.status_code == status
    assert reply.content_type == JSON
    document = json.loads(reply.data)
    assert list(document) == ["code", "type", "message"]
    assert (document["code"], document["type"]) == (status, kind)
    assert "\n" not in document["message"]
    message: str = document["message"]
    return message


# Health.


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_ping(client: FlaskClient, method: str) -> None:
    """The status is 200 without a body, for each method that platforms use."""
    reply = client.open("/ping", method=method)
    assert (reply.status_code, reply.data) == (200, b"")


class SlowHead:
    """A head that waits for a signal; it counts concurrent passes and the pairs of each."""

    def __init__(self, network: Network) -> None:
        self.score_encodings = network.score_encodings
        self.entered, self.drop_unregistered = threading.Event(), threading.Event()
        self.inside = self.most_inside = 0
        self.pairs: list[int] = []

    def __call__(self, u: Tensor, v: Tensor) -> Tensor:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.pairs.append(len(u))
        self.entered.set()
        assert self.drop_unregistered.wait(60)
        self.inside -= 1
        return self.score_encodings(u, v)


def test_ping_does_not_wait_for_invocations() -> None:
    """Waiting invocations share the next pass, and each gets its own answers."""
    hyperparameters = configured()
    predictor = Predictor(network_of(hyperparameters), hyperparameters, directory=Path("nowhere"))
    bodies = [f'{{"instances": [{{"in0": [{n}, 5], "in1": [{n}]}}]}}' for n in (1, 2, 3, 4)]
    wanted = [invoke(create_app(predictor).test_client(), body).data for body in bodies]
    slow = predictor.network.score_encodings = SlowHead(predictor.network)  # type: ignore[method-assign, assignment]
    app = create_app(predictor)
    replies: dict[str, bytes] = {}

    def ask(body: str) -> None:
        replies[body] = invoke(app.test_client(), body).data

    threads = [threading.Thread(target=ask, args=(body,)) for body in bodies]
    threads[0].start()
    assert slow.entered.wait(60)
    for thread in threads[1:]:
        thread.start()
    until = time.monotonic() + 60
    while len(app.extensions["invocations"]._batcher._waiting) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    assert app.test_client().get("/ping").status_code == 200
    if predictor._token_scorer is not None:  # with kernels, single tokens are looked up
        assert invoke(app.test_client(), '{"instances": [{"in0": [1], "in1": [1]}]}').status_code == 200
    slow.drop_unregistered.set()
    for thread in threads:
        thread.join()
    assert [json.loads(replies[body]) for body in bodies] == [
        {"predictions": [{"scores": pytest.approx(json.loads(reply)["predictions"][0]["scores"], abs=1e-6)}]}
        for reply in wanted
    ]
    assert (slow.most_inside, slow.pairs) == (1, [1, 3])


# Invocations.


def test_json(client: FlaskClient, predictor: Predictor) -> None:
    """The reply has the scores of the predictor as compact JSON, each float32 exactly."""
    reply = invoke(client, content_type=JSON)
    assert (reply.status_code, reply.content_type) == (200, JSON)
    scores = ",".join(np.format_float_positional(value, unique=True) for value in predictor.score([([1, 2], [3])])[0])
    assert reply.data.decode() == f'{{"predictions":[{{"scores":[{scores}]}}]}}'


def test_json_lines(client: FlaskClient) -> None:
    """Each line gets one line; the last one has no newline."""
    reply = invoke(client, f"{LINE}\n{LINE}\n", content_type=JSON_LINES)
    assert (reply.status_code, reply.content_type) == (200, JSON_LINES)
    first, second = (json.loads(line) for line in reply.data.split(b"\n"))
    assert list(first) == list(second) == ["scores"]
    assert first["scores"] == pytest.approx(second["scores"], abs=1e-6)


def test_missing_content_type_is_json(client: FlaskClient) -> None:
    """The reply is JSON too."""
    reply = invoke(client)
    assert (reply.status_code, reply.content_type) == (200, JSON)


def test_accept_chooses_the_reply(client: FlaskClient) -> None:
    reply = invoke(client, content_type=JSON, accept=JSON_LINES)
    assert reply.content_type == JSON_LINES
    assert list(json.loads(reply.data)) == ["scores"]


def test_default_accept_applies_to_requests_without_accept(predictor: Predictor) -> None:
    """It overrides the type of the request, but not its Accept."""
    client = create_app(predictor, accept=JSON_LINES).test_client()
    assert invoke(client, content_type=JSON).content_type == JSON_LINES
    assert invoke(client, content_type=JSON, accept="*/*").content_type == JSON_LINES
    assert invoke(client, content_type=JSON, accept=JSON).content_type == JSON


@pytest.mark.parametrize("body", ["", " \n", "\n\n"])
@pytest.mark.parametrize("kind", [JSON, JSON_LINES])
def test_empty_body_gives_204(client: FlaskClient, body: str, kind: str) -> None:
    """A batch transform of an empty file is not an error."""
    reply = invoke(client, body, content_type=kind)
    assert (reply.status_code, reply.data) == (204, b"")


def test_max_seq_lens_come_with_the_content_type(client: FlaskClient) -> None:
    """`infer_max_seqlens` reaches the predictor: further tokens change nothing."""
    long = '{"instances": [{"in0": [1, 2, 3], "in1": [3]}]}'
    short = '{"instances": [{"in0": [1], "in1": [3]}]}'
    assert invoke(client, long).data != invoke(client, short).data
    assert invoke(client, long, content_type=f"{JSON};infer_max_seqlens=1,1").data == invoke(client, short).data


MODE = "object2vec-mode"


@pytest.mark.parametrize(
    "attributes", [f"{MODE}=embedding", f"trace=7; {MODE} = embedding", f"mode=canary,{MODE}=embedding,c"]
)
def test_mode_of_a_request(client: FlaskClient, attributes: str) -> None:
    """The custom attributes may contain a mode among other values."""
    [prediction] = json.loads(invoke(client, **{ATTRIBUTES: attributes}).data)["predictions"]
    assert {side: len(vector) for side, vector in prediction["embeddings"].items()} == {"in0": 4, "in1": 4}


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        "anything at all",
        "mode=canary",
        "digits=12",
        "mode=embedding,digits=1",
        "x-object2vec-mode=embedding",
        "c000b4f9-df62-4c85",
        "=,;=",
    ],
)
def test_other_attributes_belong_to_the_client(client: FlaskClient, attributes: str) -> None:
    """They have no effect, and are returned unchanged."""
    reply = invoke(client, **{ATTRIBUTES: attributes})
    assert reply.data == invoke(client).data
    assert reply.headers[ATTRIBUTES] == attributes


def test_numbers_with_fewer_digits(client: FlaskClient, predictor: Predictor) -> None:
    reply = invoke(client, '{"instances": [{"in0": [1, 2]}]}', **{ATTRIBUTES: "object2vec-digits=2"})
    [prediction] = json.loads(reply.data)["predictions"]
    assert prediction["embeddings"] == [round(float(value), 2) for value in predictor.encode([[1, 2]], "in0")[0]]


def test_array_equals_the_library(client: FlaskClient, predictor: Predictor) -> None:
    """The array has the same bits; instances with other kinds of answers are refused."""
    body = '{"instances": [{"in0": [1, 2]}, {"in0": [3]}]}'
    reply = invoke(client, body, accept="application/x-npy")
    assert reply.content_type == "application/x-npy"
    array = np.load(io.BytesIO(reply.data), allow_pickle=False)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, predictor.encode([[1, 2], [3]], "in0"))
    for mixed in ('{"in0": [1]}, {"in1": [1]}', '{"in0": [1]}, {"in0": [1], "in1": [1]}'):
        error_body(invoke(client, f'{{"instances": [{mixed}]}}', accept="application/x-npy"), 406, "NotAcceptableError")


STREAM = {ATTRIBUTES: "trace=7,object2vec-stream=1"}
COUNT = 2 * MAX_BATCH_ROWS + 3
SINGLES = "\n".join(f'{{"in0": [{n % 8 + 1}]}}' for n in range(COUNT))
PAIRS = "\n".join(f'{{"in0": [{n % 8 + 1}], "in1": [{n // 8 % 8 + 1}]}}' for n in range(COUNT))


def lines(client: FlaskClient, body: str, **headers: str) -> TestResponse:
    return invoke(client, body, content_type=JSON_LINES, **headers)


def test_many_lines_are_streamed_on_request(predictor: Predictor) -> None:
    """Parts have whole lines, in order, without a newline at the end."""
    client = create_app(predictor).test_client()
    reply = lines(client, PAIRS, **STREAM)
    assert "Content-Length" not in reply.headers
    parts = [part.strip(b"\n") for part in reply.iter_encoded()]
    assert [part.count(b"\n") + 1 for part in parts] == [MAX_BATCH_ROWS, MAX_BATCH_ROWS, 3]
    wanted = predictor.score([([n % 8 + 1], [n // 8 % 8 + 1]) for n in range(COUNT)])
    got = [json.loads(line)["scores"] for line in b"\n".join(parts).split(b"\n")]
    np.testing.assert_allclose(np.array(got, np.float32), wanted, atol=1e-6)


def test_long_array_is_streamed_on_request(predictor: Predictor) -> None:
    """The stream is one array; a request whose answers do not form one is refused first."""
    client = create_app(predictor).test_client()
    reply = lines(client, SINGLES, accept=NPY, **STREAM)
    parts = list(reply.iter_encoded())
    assert len(parts) == 3
    wanted = predictor.encode([[n % 8 + 1] for n in range(COUNT)], "in0")
    np.testing.assert_array_equal(np.load(io.BytesIO(b"".join(parts)), allow_pickle=False), wanted)
    for last in ('{"in1": [1]}', '{"in0": [1], "in1": [1]}'):
        reply = lines(client, f"{SINGLES}\n{last}", accept=NPY, **STREAM)
        assert error_body(reply, 406, "NotAcceptableError").startswith("application/x-npy is one array")


@pytest.mark.parametrize("spool_bytes", [2**20, 10_000])
@pytest.mark.parametrize("accept", [JSON, JSON_LINES, NPY])
@pytest.mark.parametrize("body", [SINGLES, PAIRS])
def test_long_replies_have_a_length(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, spool_bytes: int, accept: str, body: str
) -> None:
    """In each type, from memory or from a file, the bytes equal those of a streamed reply."""
    monkeypatch.setattr(spool, "MAX_MEMORY_BYTES", spool_bytes)
    client = create_app(predictor).test_client()
    with (
        closing(lines(client, body, accept=accept)) as whole,
        closing(lines(client, body, accept=accept, **STREAM)) as parts,
    ):
        assert whole.status_code == 200
        assert int(whole.headers["Content-Length"]) == len(whole.data)
        assert whole.data == parts.data


def test_error_within_a_long_reply_has_status_500(monkeypatch: pytest.MonkeyPatch) -> None:
    """A streamed reply can only be cut off. Reserved memory is released in both cases."""
    hyperparameters = configured()
    predictor = Predictor(network_of(hyperparameters), hyperparameters, directory=Path("nowhere"))
    passes = iter([True, True, False])
    compare = predictor.network.score_encodings

    def failing(u: Tensor, v: Tensor) -> Tensor:
        if not next(passes):
            raise ZeroDivisionError
        return compare(u, v)

    memory = MemoryBudget(2**30)
    app = create_app(predictor, memory=memory)
    monkeypatch.setattr(predictor.network, "score_encodings", failing)
    body = "\n".join(f'{{"in0": [1, {n % 8}], "in1": [2]}}' for n in range(3000))
    error_body(lines(app.test_client(), body), 500, "InternalServerError")
    assert memory._left == 2**30
    assert len(app.extensions["invocations"]._slots) == MAX_INVOCATIONS


def test_array_of_pairs_in_embedding_mode_is_refused(predictor: Predictor) -> None:
    """It would be two arrays. The error comes before the model runs, for any length."""
    app = create_app(predictor)
    app.extensions["invocations"]._batcher = None  # nothing is computed
    for body in (LINE, PAIRS):
        sentence = error_body(
            lines(app.test_client(), body, accept=NPY, **{ATTRIBUTES: "object2vec-mode=embedding"}),
            406,
            "NotAcceptableError",
        )
        assert sentence == (
            "application/x-npy is one array, and a pair in embedding mode has two embeddings, wanted in0 and in1 in"
            " requests of their own, or another Accept"
        )
    for body in (f'{LINE}\n{{"in0": [1]}}', f'{SINGLES}\n{{"in1": [1]}}'):
        assert "all pairs or all of the same side" in error_body(
            lines(app.test_client(), body, accept=NPY), 406, "NotAcceptableError"
        )


# Inputs that are answered, but perhaps not as the client expects.

#: Per line: no fault; id 0; no id; null; longer than max_seq_len (5); as long as it.
DOUBTFUL = [
    '{"in0": [1], "in1": [1, 0]}',
    '{"in0": [0], "in1": [1]}',
    '{"in0": [1], "in1": []}',
    '{"in0": [0, 0], "in1": null}',
    '{"in0": [1, 2, 3, 4, 5, 6], "in1": [0, 0]}',
    '{"in0": [1, 2, 3, 4, 5], "in1": [1]}',
]
WARNED: list[list[dict[str, str]]] = [
    [],
    [{"side": "in0", "kind": "no_tokens"}],
    [{"side": "in1", "kind": "no_tokens"}],
    [{"side": "in0", "kind": "no_tokens"}],
    [{"side": "in0", "kind": "truncated"}, {"side": "in1", "kind": "no_tokens"}],
    [],
]


@pytest.mark.parametrize("times", [1, 200])
@pytest.mark.parametrize("kind", [JSON, JSON_LINES])
def test_warnings_are_added_to_answers_on_request(times: int, kind: str) -> None:
    """The numbers do not change."""
    client = doubting(max_seq_len=5)
    body = "\n".join(DOUBTFUL * times) if kind == JSON_LINES else f'{{"instances": [{",".join(DOUBTFUL * times)}]}}'
    warned, plain = (
        invoke(client, body, content_type=kind, accept=JSON_LINES, **{ATTRIBUTES: attributes})
        for attributes in ("object2vec-warnings=1", "object2vec-warnings=0")
    )
    answers = [json.loads(line) for line in warned.data.splitlines()]
    assert [answer.pop("warnings", []) for answer in answers] == WARNED * times
    assert answers == [json.loads(line) for line in plain.data.splitlines()]


@pytest.mark.parametrize("network", ["hcnn", "bilstm"])
def test_warnings_of_other_encoders(network: str) -> None:
    """They read id 0 as a token; empty and truncated sides give warnings."""
    client = doubting(network=network, max_seq_len=5)
    reply = lines(client, "\n".join(DOUBTFUL), **{ATTRIBUTES: "object2vec-warnings=1"})
    assert [json.loads(line).get("warnings", []) for line in reply.data.splitlines()] == [
        [],
        [],
        [{"side": "in1", "kind": "no_tokens"}],
        [],
        [{"side": "in0", "kind": "truncated"}],
        [],
    ]


def test_warnings_depend_on_the_lengths_of_a_request() -> None:
    """`infer_max_seqlens` determines what is truncated, and whether any token is left."""
    client = doubting(max_seq_len=5)

    def warned(lengths: str) -> Any:
        headers = {"content_type": f"{JSON_LINES};infer_max_seqlens={lengths}", ATTRIBUTES: "object2vec-warnings=1"}
        return json.loads(invoke(client, '{"in0": [0, 1, 2, 3, 4, 5]}', **headers).data).get("warnings")

    assert warned("6,1") is None
    assert warned("5,1") == [{"side": "in0", "kind": "truncated"}]
    assert warned("1,1") == [{"side": "in0", "kind": "truncated"}, {"side": "in0", "kind": "no_tokens"}]


def test_array_has_no_warnings(client: FlaskClient) -> None:
    headers = {"accept": NPY, ATTRIBUTES: "object2vec-warnings=1"}
    assert "object2vec-warnings=1" in error_body(lines(client, LINE, **headers), 406, "NotAcceptableError")


def doubting(**changes: object) -> FlaskClient:
    settings = {
        f"enc{side}_{name}" if name == "max_seq_len" else name: v for name, v in changes.items() for side in (0, 1)
    }
    hyperparameters = configured(**settings)
    return create_app(Predictor(network_of(hyperparameters), hyperparameters, directory=Path("nowhere"))).test_client()


# What tools send.


@pytest.mark.parametrize("alias", ["application/x-ndjson", "application/jsonl", "application/x-jsonlines"])
def test_aliases_of_json_lines(client: FlaskClient, alias: str) -> None:
    """They are read as JSON Lines; the reply has the name that the client used."""
    body = f"{LINE}\n{LINE}"
    assert invoke(client, body, content_type=alias).data == lines(client, body).data
    assert invoke(client, body, content_type=alias).content_type == alias
    assert invoke(client, body, content_type=alias, accept="*").content_type == alias
    assert invoke(client, PAIR, content_type=JSON, accept=alias).content_type == alias


@pytest.mark.parametrize(
    "header", [None, "application/octet-stream", "application/x-www-form-urlencoded", "text/plain"]
)
def test_format_is_recognized_by_content(client: FlaskClient, header: str | None) -> None:
    """Without a specific Content-Type, the reply has the format of the body."""
    headers = {} if header is None else {"content_type": header}
    for body, kind in ((PAIR, JSON), (f"{LINE}\n{LINE}", JSON_LINES), (f"\ufeff{LINE}", JSON_LINES)):
        reply = invoke(client, body, **headers)
        assert (reply.status_code, reply.content_type) == (200, kind)
        assert reply.data == invoke(client, body, content_type=kind).data
    if header is not None:
        assert f"Content-Type '{header}' is not" in error_body(
            invoke(client, "1,2", **headers), 415, "UnsupportedMediaTypeError"
        )


def test_null_sides_and_whole_floats_are_read(client: FlaskClient) -> None:
    """pandas writes missing values and integers this way."""
    reply = lines(client, '{"in0": [1.0, 2.0], "in1": [3e0], "label": null}\n{"in0": [1.0], "in1": null}')
    assert reply.data == lines(client, '{"in0": [1, 2], "in1": [3]}\n{"in0": [1]}').data
    sentence = error_body(lines(client, '{"in0": null, "in1": null}'), 400, "RequestError")
    assert sentence == "line 1 has neither in0 nor in1"


# The path of the service itself.


@pytest.mark.parametrize("name", ["my-endpoint", "a", "e" * 63])
def test_path_of_any_endpoint_is_answered(client: FlaskClient, name: str) -> None:
    """The name of the endpoint does not matter."""
    assert client.post(f"/endpoints/{name}/invocations", data=PAIR).data == invoke(client).data
    error_body(client.get(f"/endpoints/{name}/invocations"), 405, "MethodNotAllowed")


@pytest.mark.parametrize(
    "path", ["/endpoints//invocations", "/endpoints/a/b/invocations", "/endpoints/a", "/endpoints"]
)
def test_other_paths_of_endpoints(client: FlaskClient, path: str) -> None:
    assert "wanted /, /endpoints/<name>/invocations" in error_body(client.post(path, data=PAIR), 404, "NotFound")


def test_path_of_a_streamed_invocation_is_unknown(client: FlaskClient) -> None:
    """The service sends these events itself; it never asks the container."""
    sentence = error_body(client.post("/endpoints/a/invocations-response-stream", data=PAIR), 404, "NotFound")
    assert "is not served, wanted /invocations with object2vec-stream=1" in sentence


@pytest.mark.parametrize("records", [1, 3, 100])
def test_batch_transform_requests_give_one_answer_per_record(predictor: Predictor, records: int) -> None:
    """This holds for SingleRecord and MultiRecord, with and without a final newline."""
    client = create_app(predictor).test_client()
    lines = [f'{{"in0": [{n % 9}, {n % 7}], "in1": [{n % 5}], "label": 1}}\n' for n in range(20)]
    posts = ["".join(lines[start : start + records]) for start in range(0, len(lines), records)]
    replies = [invoke(client, body, content_type=JSON_LINES).data for body in posts]
    whole = b"\n".join(replies).split(b"\n")  # AssembleWith=Line
    got = np.array([json.loads(line)["scores"] for line in whole], np.float32)
    np.testing.assert_allclose(got, predictor.score([([n % 9, n % 7], [n % 5]) for n in range(20)]), atol=1e-6)


# Refusals.


def test_body_without_instances_is_refused(client: FlaskClient) -> None:
    """The error has the built-in's words."""
    sentence = error_body(invoke(client, f"[{LINE}]"), 400, "RequestError")
    assert sentence.startswith("unable to evaluate payload provided")


def test_invalid_instance_is_named(client: FlaskClient) -> None:
    """Errors of the codec and of the model have the same form."""
    sentence = error_body(invoke(client, '{"instances": [{"in0": [1]}, {"in0": ["1"]}]}'), 400, "RequestError")
    assert sentence == 'instances[1]: in0[0] is the string "1", wanted an integer token id'
    sentence = error_body(invoke(client, f"{LINE}\n\n" + '{"in0": [9]}', content_type=JSON_LINES), 400, "RequestError")
    assert sentence == 'line 3: Inconsistent vocab for in0 found. Vocab id "9" is not less than vocab_size=9'


def test_deep_nesting_is_refused(predictor: Predictor) -> None:
    """The status is 400; the stack does not overflow."""
    client = create_app(predictor).test_client()
    error_body(invoke(client, '{"instances": ' + "[" * 100_000), 400, "RequestError")
    error_body(invoke(client, '{"instances": [{"in0": ' + "[" * 900 + "]" * 900 + "}]}"), 400, "RequestError")


def test_unknown_mode(client: FlaskClient) -> None:
    sentence = error_body(invoke(client, **{ATTRIBUTES: "object2vec-mode=fast"}), 400, "RequestError")
    assert sentence == f"object2vec-mode in {ATTRIBUTES} is 'fast', wanted one of classification, regression, embedding"


def test_unsupported_content_type(client: FlaskClient) -> None:
    sentence = error_body(invoke(client, content_type="text/csv"), 415, "UnsupportedMediaTypeError")
    assert sentence == "Content-Type 'text/csv' is not supported, wanted application/json or application/jsonlines"


def test_unacceptable_accept_is_refused(client: FlaskClient) -> None:
    """The error comes before the model runs."""
    sentence = error_body(invoke(client, "{", accept="text/csv"), 406, "NotAcceptableError")
    wanted = "application/json, application/jsonlines or application/x-npy"
    assert sentence == f"Accept 'text/csv' allows no reply that can be sent, wanted {wanted}"


@pytest.mark.parametrize("chunked", [False, True])
def test_payload_limit(client: FlaskClient, chunked: bool) -> None:
    """A body of the limit is read; one more byte is refused, with a declared length or in chunks."""

    def send(length: int) -> TestResponse:
        body = PAIR.encode().ljust(length)
        if not chunked:
            return client.post("/invocations", data=body)
        headers = {"Transfer-Encoding": "chunked"}
        stream = io.BytesIO(body)
        return client.post(
            "/invocations", input_stream=stream, headers=headers, environ_overrides={"wsgi.input_terminated": True}
        )

    assert send(1000).status_code == 200
    for length in (1001, 100_000):
        sentence = error_body(send(length), 413, "PayloadTooLargeError")
        assert sentence == (
            "the body is longer than 1000 bytes, the most that this server takes; raise SAGEMAKER_MAX_PAYLOAD_IN_MB,"
            " which is 0.000953674"
        )


@pytest.mark.parametrize(
    ("limit", "memory", "advice"),
    [
        (25 * 2**20, 2**30, "; raise SAGEMAKER_MAX_PAYLOAD_IN_MB, which is 25"),
        (6 * 2**20, 30 * 2**20, "; raise SAGEMAKER_MAX_PAYLOAD_IN_MB, which is 6"),
        (25 * 2**20, 5 * 2**20, "; it has no memory for more"),
        (None, 5 * 2**20, "; it has no memory for more"),
    ],
)
def test_payload_error_names_the_variable_that_sets_the_limit(
    predictor: Predictor, limit: int | None, memory: int, advice: str
) -> None:
    """The variable is not named if memory is the limit."""
    client = create_app(predictor, max_payload=limit, memory=MemoryBudget(memory)).test_client()
    most = min(limit or memory, memory // COLUMN_BYTES)
    sentence = error_body(
        client.post("/invocations", data=b"", environ_overrides={"CONTENT_LENGTH": str(most + 1)}),
        413,
        "PayloadTooLargeError",
    )
    assert sentence == f"the body is longer than {most} bytes, the most that this server takes{advice}"


@pytest.mark.parametrize("chunked", [False, True])
def test_body_beyond_the_memory_is_refused(predictor: Predictor, chunked: bool) -> None:
    """The error is temporary if other requests use the memory, and permanent if it never fits."""
    memory = MemoryBudget(2**20)
    client = create_app(predictor, memory=memory).test_client()

    def send(length: int) -> TestResponse:
        body, terminated = PAIR.encode().ljust(length), {"wsgi.input_terminated": True}
        if not chunked:
            return client.post("/invocations", data=body)
        return client.post("/invocations", input_stream=io.BytesIO(body), environ_overrides=terminated)

    assert send(2**17).status_code == 200
    with memory.reserve(2**17):
        assert "no memory for" in error_body(send(2**17), 503, "OverloadedError")
        assert send(2**10).status_code == 200
    assert send(2**17).status_code == 200
    assert "is longer than 209715 bytes" in error_body(send(2**18), 413, "PayloadTooLargeError")


def test_body_in_another_form_needs_more_memory(predictor: Predictor) -> None:
    """Fewer bytes of it are accepted."""
    client = create_app(predictor, memory=MemoryBudget(2**20)).test_client()
    other_form = '{"instances": [{"in0": [1], "in1": [2], "more": []}]}'
    assert invoke(client, other_form).status_code == 200
    assert "where instances are more than" in error_body(
        invoke(client, other_form.ljust(2**17)), 413, "PayloadTooLargeError"
    )


def test_no_payload_limit(predictor: Predictor) -> None:
    client = create_app(predictor, max_payload=None).test_client()
    assert invoke(client, PAIR.ljust(10**6)).status_code == 200


def test_no_such_route(client: FlaskClient) -> None:
    sentence = error_body(client.get("/nothing"), 404, "NotFound")
    paths = "/, /endpoints/<name>/invocations, /execution-parameters, /invocations, /metrics, /openapi.json or /ping"
    assert sentence == f"there is no /nothing, wanted {paths}"


def test_method_not_allowed(client: FlaskClient) -> None:
    """405 names the methods, in the header as well."""
    reply = client.get("/invocations")
    assert error_body(reply, 405, "MethodNotAllowed") == "/invocations does not take GET, wanted OPTIONS, POST"
    assert reply.headers["Allow"] == "OPTIONS, POST"


class Failing(Predictor):
    """A predictor that raises an error."""

    schema = None

    def __init__(self, error: Exception) -> None:
        self.error = error

    def prepare(self, instances: Instances, **_: Any) -> Query:
        raise self.error


def test_unexpected_error_is_a_fixed_sentence(caplog: pytest.LogCaptureFixture) -> None:
    """The log has the reason and the traceback."""
    client = create_app(Failing(ZeroDivisionError("secret"))).test_client()
    sentence = error_body(invoke(client), 500, "InternalServerError")
    assert sentence == "the request could not be answered; the reason is in the server's log"
    assert "ZeroDivisionError: secret" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("error", [AlgorithmError("a reason"), ArtifactError("a reason")])
def test_known_server_errors_have_their_own_sentence(caplog: pytest.LogCaptureFixture, error: Object2VecError) -> None:
    """The log has the traceback."""
    client = create_app(Failing(error)).test_client()
    assert error_body(invoke(client), 500, type(error).__name__) == "a reason"
    assert "Traceback" in caplog.text


def test_client_error_is_not_logged(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    invoke(client, "{")
    assert not caplog.records


# Batch transform.


@pytest.mark.parametrize(
    ("concurrency", "wanted"), [(1, (1, 6)), (4, (4, 6)), (16, (16, 6)), (40, (40, 2)), (400, (100, 1))]
)
def test_execution_parameters(predictor: Predictor, concurrency: int, wanted: tuple[int, int]) -> None:
    """Concurrency is that of the server, and payloads are at most 100 MB in total."""
    reply = create_app(predictor, concurrency=concurrency).test_client().get("/execution-parameters")
    transforms, payload = wanted
    assert reply.content_type == JSON
    assert json.loads(reply.data) == {
        "MaxConcurrentTransforms": transforms,
        "BatchStrategy": "MULTI_RECORD",
        "MaxPayloadInMB": payload,
    }
