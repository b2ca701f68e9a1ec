"""Raw values in requests: the same answers as token ids, unknown values marked, and one sentence for each error."""

from __future__ import annotations

import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from object2vec.data.records import SIDES
from object2vec.errors import Object2VecError
from object2vec.ops import library
from object2vec.schema.columns import Text
from object2vec.serving import codec, raw_values
from object2vec.serving.application import create_app
from object2vec.serving.headers import Content
from object2vec.serving.predictor import Predictor
from raw_models import FILMS, USERS, asked, film_schema, post, predictions, save_model, schema_of, text_schema

LINES = Content(type="application/jsonlines")
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    model = save_model(tmp_path_factory.mktemp("films"), film_schema(), output_layer="mean_squared_error")
    return create_app(Predictor.load(model)).test_client()


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    return create_app(Predictor.load(save_model(tmp_path_factory.mktemp("texts"), text_schema()))).test_client()


A = {"film": "a", "genres": ["fun", "war"]}


def test_raw_values_are_answered_as_their_token_ids(films: FlaskClient) -> None:
    raw = predictions(films, {"in0": {"user": 3}, "in1": A}, {"in0": {"user": 3}}, {"in1": A})
    ids = predictions(films, {"in0": [5], "in1": [4, 6, 7]}, {"in0": [5]}, {"in1": [4, 6, 7]})
    assert raw == ids


@pytest.mark.parametrize("user", ["3", 3, 3.0, {"user": "3"}, {"user": 3.0}])
def test_a_side_of_one_column_takes_the_value_alone(films: FlaskClient, user: Any) -> None:
    assert predictions(films, {"in0": user}) == predictions(films, {"in0": [5]})


def test_a_list_column_takes_text_with_its_separator(films: FlaskClient) -> None:
    assert predictions(films, {"in1": {"film": "a", "genres": "fun | war"}}) == predictions(films, {"in1": A})


def test_raw_values_and_token_ids_can_be_in_one_request(films: FlaskClient) -> None:
    mixed = predictions(films, {"in0": [5], "in1": A}, {"in0": "3", "in1": [4, 6, 7]})
    assert mixed[0] == mixed[1]


def test_unknown_values_are_answered_and_marked(films: FlaskClient) -> None:
    found = predictions(films, {"in0": 99, "in1": {"film": "z", "genres": ["fun"]}}, {"in0": 1, "in1": A})
    assert found[0]["unknown"] == ["user", "film"]
    wanted = predictions(films, {"in0": [2], "in1": [2, 6]})[0]["scores"]
    assert found[0]["scores"] == pytest.approx(wanted, rel=1e-5)
    assert "unknown" not in found[1]


def test_a_missing_value_is_not_unknown(films: FlaskClient) -> None:
    assert predictions(films, {"in1": {"film": None, "genres": ["fun"]}}) == predictions(films, {"in1": [6]})


def test_strict_requests_refuse_unknown_values(films: FlaskClient) -> None:
    body = {"instances": [{"in0": 1}, {"in0": 99}]}
    reply = post(films, body, **{ATTRIBUTES: "object2vec-strict=1"})
    assert reply.status_code == 400
    assert reply.get_json()["message"] == "instances[1]: in0 has an unknown user, and object2vec-strict is 1"


def test_unknown_values_are_counted_in_the_metrics(films: FlaskClient) -> None:
    predictions(films, {"in0": 98})
    assert 'object2vec_input_warnings_total{kind="unknown"}' in films.get("/metrics").text


def test_a_text_alone_gets_the_scores_of_its_classes(texts: FlaskClient) -> None:
    """The side without columns is the same object in training and in requests."""
    assert predictions(texts, {"in0": "Good!"}) == predictions(texts, {"in0": [3], "in1": [1]})


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        ({"in0": {"user": [1]}}, "instances[1]: in0.user is the list [1], wanted a string, a number or null"),
        ({"in0": {"user": {"a": 1}}}, "instances[1]: in0.user is the object {'a': 1}, wanted a string"),
        ({"in0": {"usr": 1}}, "instances[1]: in0 has the column 'usr', the nearest is user"),
        ({"in1": "a"}, "instances[1]: in1 is the string 'a', wanted an object with these columns: film, genres"),
        ({"in1": {"genres": [[1]]}}, "instances[1]: in1.genres is "),
        ({"in0": ["x"]}, 'instances[1]: in0[0] is the string "x", wanted an integer token id'),
    ],
)
def test_a_malformed_raw_value_is_named(films: FlaskClient, instance: Any, message: str) -> None:
    reply = post(films, {"instances": [{"in0": 1}, instance]})
    assert reply.status_code == 400
    assert reply.get_json()["message"].startswith(message)


def test_a_list_that_python_cannot_show_is_an_error(films: FlaskClient) -> None:
    reply = post(films, '{"instances": [{"in0": {"user": %s}}]}' % ("[" * 1000 + "]" * 1000))
    assert reply.status_code == 400
    assert reply.get_json()["message"].startswith("instances[0]: in0.user is the list that is too long to show, wanted")


def test_a_model_without_a_schema_takes_token_ids_alone(tmp_path: Path) -> None:
    schema = film_schema()
    model = save_model(tmp_path, schema)
    (tmp_path / "schema.json").unlink()
    client = create_app(Predictor.load(model)).test_client()
    reply = post(client, {"instances": [{"in0": {"user": 1}}]})
    assert reply.get_json()["message"] == "instances[0]: in0 is an object, wanted a list of integer token ids"
    assert post(client, "1,a,fun\n", "text/csv").status_code == 415


# CSV.


def lines(client: FlaskClient, body: str, **headers: str) -> list[Any]:
    reply = post(client, body, "text/csv", **headers)
    assert (reply.status_code, reply.content_type) == (200, "application/jsonlines"), reply.text
    return [json.loads(line) for line in reply.text.splitlines()]


def test_csv_is_answered_line_by_line(films: FlaskClient) -> None:
    wanted = predictions(films, {"in0": 1, "in1": A}, {"in0": 2, "in1": {"film": "b"}})
    assert lines(films, '1,a,fun|war\r\n2,"b",\r\n') == wanted
    assert lines(films, "genres,user,film\nfun|war,1,a\n\n,2,b\n") == wanted, "a first line names the columns"
    (labelled,) = lines(films, "user,film,genres,stars\n1,a,fun|war,5\n")
    assert labelled["scores"] == pytest.approx(wanted[0]["scores"], rel=1e-5), "the label is not read"


def test_csv_with_the_columns_of_one_side_gets_embeddings(films: FlaskClient) -> None:
    assert lines(films, "user\n3\n") == predictions(films, {"in0": 3})


def test_csv_can_be_answered_as_json(films: FlaskClient) -> None:
    reply = post(films, "1,a,\n", "text/csv; charset=utf-8", Accept="application/json")
    assert len(reply.get_json()["predictions"]) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("1,a\n", "line 1 has 2 fields, wanted 3: user, film, genres; a first line may name fewer"),
        ("user,film,genres\n1,a,\n1,a\n", "line 3 has 2 fields, wanted 3: user, film, genres"),
        ('1,"a,fun\n', "line 1: not CSV (unexpected end of data)"),
        (b"1,\xff,\n", "the CSV is not UTF-8 (invalid start byte at byte 2)"),
    ],
)
def test_a_malformed_line_of_csv_is_named(films: FlaskClient, body: str | bytes, message: str) -> None:
    reply = post(films, body, "text/csv")
    assert (reply.status_code, reply.get_json()["message"]) == (400, message)


# Whatever a client sends.

columns = st.sampled_from(["user", "film", "genres", "x"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(columns, inner),
    max_leaves=6,
)
cells = st.lists(st.lists(st.text(alphabet='a1,"|\r\n'), max_size=4))


def is_refused(body: bytes, content: Content) -> bool:
    """Return whether a body is refused; an error must be the client's, and one sentence."""
    try:
        codec.decode_any(body, content, schema=film_schema())
    except Object2VecError as error:
        return error.http_status == 400 and "\n" not in str(error)
    return False


@given(st.lists(st.fixed_dictionaries({}, optional={"in0": values, "in1": values}), max_size=3))
def test_any_json_is_decoded_or_refused_with_a_sentence(records: list[Any]) -> None:
    refused = is_refused(json.dumps({"instances": records}).encode(), Content())
    assert refused or all(record.keys() for record in records)


@given(st.text() | cells.map(lambda rows: "\n".join(map(",".join, rows))))
def test_any_csv_is_decoded_or_refused_with_a_sentence(text: str) -> None:
    is_refused(text.encode("utf-8", "surrogatepass"), Content(type="text/csv"))


users = st.integers(0, 9) | st.sampled_from(["1", "3", "x,}", '\\"', "é\n", ""]) | st.none() | st.floats(0, 9)
genres = st.lists(st.sampled_from(["fun", "war", "a]", "{"]), max_size=3) | st.sampled_from(["fun|war", "fun"])
objects = (
    st.fixed_dictionaries({}, optional={"user": users}),
    st.fixed_dictionaries({}, optional={"film": users, "genres": genres}) | st.lists(st.integers(0, 9), max_size=2),
)
records = st.fixed_dictionaries({"in0": objects[0]}, optional={"in1": objects[1], "label": st.just(1)})


@pytest.mark.skipif(not library.available(), reason="there is one way to read a body without kernels")
@given(st.lists(records, min_size=1, max_size=4))
def test_kernel_and_orjson_read_the_same_raw_values(records: list[dict[str, Any]]) -> None:
    """The kernel cuts a body into raw values, which are looked up as they are written if they occurred before."""
    schema = film_schema()
    document = json.dumps({"instances": records}).encode()
    for content, body in ((Content(), document), (LINES, b"\n\n".join(json.dumps(each).encode() for each in records))):
        wanted = asked(codec.decode_any(body, content, 3, schema))
        plain = [codec.decode_plain(body, content, 3, schema) for _ in range(2)]
        mixed = {type(record["in1"]) for record in records if "in1" in record} == {dict, list}
        assert [found and asked(found) for found in plain] == [None if mixed else wanted] * 2


@pytest.mark.skipif(not library.available(), reason="there is one way to read a body without kernels")
@given(
    st.lists(st.sampled_from(["good", "Bad ", "été", "É", "x", "-", "3", "\u00a0", "a" * 300]), max_size=4),
    st.booleans(),
)
def test_kernel_and_orjson_read_the_same_words(words: list[str], has_escapes: bool) -> None:
    schema = schema_of(((Text("title"),), [{"good": 2, "bad": 1, "été": 1, "É": 1, "a" * 300: 1}]), ((), []))
    for text in (" ".join(words), "".join(words)):
        body = json.dumps({"in0": {"title": text}}, ensure_ascii=has_escapes).encode()
        found = codec.decode_plain(body, LINES, 1, schema)
        assert found is not None
        assert asked(found) == asked(codec.decode_any(body, LINES, 1, schema))


@pytest.mark.skipif(not library.available(), reason="values are kept only by kernels")
def test_kernel_reads_any_number_of_different_objects_in_any_order_of_columns() -> None:
    """Python makes no object of them, and keeps none."""
    users = list(map(str, range(30_000)))
    schema = schema_of((USERS, [dict.fromkeys(users, 1)]), (FILMS, [{"a": 3}, {"fun": 2, "war": 1}]))
    bodies = (b'{"in0": %d, "in1": {"genres": ["war", null, "x"], "film": "a"}}' % user for user in range(30_000))
    found = codec.decode_plain(b"\n".join(bodies), LINES, 1, schema)
    assert found is not None
    assert found.columns[0].sequences.values.tolist() == schema["in0"].vocabulary.lookup(0, users).ravel().tolist()
    assert found.columns[1].sequences.values.tolist() == [4, 6, 3] * 30_000
    assert [(warning.column, len(warning.rows)) for warning in found.warnings] == [("genres", 30_000)]
    assert not any(side.ids_by_json for side in schema.sides)


def test_threads_read_the_same_raw_values() -> None:
    """The kernel runs without the interpreter's lock on a body of this size."""
    schema = film_schema()
    body = b"\n".join(b'{"in0": %d, "in1": {"film": "b", "genres": "fun|x"}}' % (user % 12) for user in range(3_000))
    wanted = asked(codec.decode_any(body, LINES, 1, schema))
    with ThreadPoolExecutor(4) as pool:
        assert all(
            asked(found) == wanted for found in pool.map(lambda _: codec.decode(body, LINES, 1, schema), range(16))
        )


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ('{"in0": 1, "in1": {"film": [1]}}\n{"in0": [1.5]}', "jsonlines", "line 1: in1.film is the list [1]"),
        ('{"in0": 1}\n{"in0": {"usr": 1}}\n{', "jsonlines", "line 2: in0 has the column 'usr'"),
        ('{"in0": 1, "in1": 2}\n{"in0": {"user": {}}}', "jsonlines", "line 1: in1 is the value 2, wanted an object"),
        ('{"in0": {"user": {}}, "in1": 2}\n{"in1": 3}', "jsonlines", "line 1: in0.user is the object {}"),
        ("1,a,fun\n1,a\n1\n", "csv", "line 2 has 2 fields"),
    ],
)
def test_the_first_of_several_errors_is_named(films: FlaskClient, body: str, kind: str, message: str) -> None:
    reply = post(films, body, "text/csv" if kind == "csv" else f"application/{kind}")
    assert reply.status_code == 400
    assert reply.get_json()["message"].startswith(message)


@pytest.mark.skipif(not library.available(), reason="there is one way to read a body without kernels")
@pytest.mark.parametrize("second", [{"in0": "bad", "in1": {}}, {"in1": {}}, {"in0": [3]}, {"in0": [3], "in1": {}}])
def test_kernel_adds_the_side_without_columns_to_each_text(second: dict[str, Any]) -> None:
    body = json.dumps({"instances": [{"in0": {"title": "good"}}, second]}).encode()
    wanted = asked(codec.decode_any(body, Content(), 3, text_schema()))
    found = codec.decode_plain(body, Content(), 3, text_schema())
    assert found is None if second.get("in0") == [3] else found and asked(found) == wanted


@pytest.mark.skipif(not library.available(), reason="there is one way to read a body without kernels")
@pytest.mark.parametrize(
    "value", ["", "1 2", "{", "[1", '"', "{1}", "[}", "nul", "\\", '{"usr": 1}', '{"user": [1]}', "\xff"]
)
def test_kernel_leaves_malformed_raw_values_to_orjson(value: str) -> None:
    """Also if the values around them are correct, and close what is open in them."""
    for body in ('{"in0": %s}', '{"in0": 1}\n{"in0": %s}\n{"in0": 1}', '{"in0": %s, "in1": {"film": 1}}]'):
        assert codec.decode_plain((body % value).encode("latin-1"), LINES, 1, film_schema()) is None


def test_a_few_short_values_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of a server does not grow with the number of different values."""
    monkeypatch.setattr(raw_values, "MAX_KNOWN_VALUES", 3)
    schema = film_schema()
    wanted = schema.encode("in0", range(9)).ids.tolist()
    for text in (b"%d.0", b'{"user": %d, "user": %%d}' % 10**199):
        body = b"\n".join(b'{"in0": %b}' % (text % user) for user in range(9))
        found = codec.decode(body, LINES, schema=schema)
        assert found.columns[0].sequences.values.tolist() == wanted
        assert len(schema["in0"].ids_by_json) <= 3
        assert all(len(value) < 10 for value in schema["in0"].ids_by_json)


cell = st.sampled_from(["a", "b", "fun|war", "fun", ""]) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.tuples(cell, cell, cell), min_size=1, max_size=5))
def test_json_csv_and_tables_agree_on_ids(rows: list[tuple[str, str, str]]) -> None:
    """Any Unicode, quotes and separators, and missing values."""
    pytest.importorskip("pyarrow")
    schema = film_schema()
    records = [{"in0": {"user": user}, "in1": {"film": film, "genres": genres}} for user, film, genres in rows]
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    columns = dict(zip(("user", "film", "genres"), map(list, zip(*rows, strict=True)), strict=True))
    from_json = codec.decode_any(json.dumps({"instances": records}).encode(), Content(), schema=schema)
    from_csv = codec.decode_any(text.getvalue().encode(), Content(type="text/csv"), schema=schema)
    for number, side in enumerate(SIDES):
        encoded = schema.encode_columns(side, columns)
        for instances in (from_json, from_csv):
            found = instances.columns[number].sequences
            assert found.values.tolist() == encoded.ids.tolist()
            assert found.offsets.tolist() == encoded.offsets.tolist()
