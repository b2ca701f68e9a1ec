"""Requests and replies as bytes: the built-in's samples, every fault of a body in its sentence, and negotiation."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from object2vec.errors import NotAcceptableError, RequestError, UnsupportedMediaTypeError
from object2vec.serving import wire
from object2vec.serving.instances import Instances, Prediction
from object2vec.serving.wire import JSON, JSON_LINES, Content

LINES = Content(type=JSON_LINES)


def decode(body: str | bytes, content: Content | None = None) -> Instances:
    return wire.decode(body.encode() if isinstance(body, str) else body, content or Content())


def scores(*values: float) -> Prediction:
    return {"scores": np.array(values, np.float32)}


# What the built-in takes and sends.


def test_json_request_of_the_built_in() -> None:
    """Its sample of two pairs becomes two columns."""
    pairs = '{"in0": [6, 17, 606], "in1": [16, 21, 13]}, {"in0": [774, 14, 21, 206], "in1": [21, 366, 125]}'
    instances = decode(f'{{"instances": [{pairs}]}}')
    assert instances.in0 == [[6, 17, 606], [774, 14, 21, 206]]
    assert instances.in1 == [[16, 21, 13], [21, 366, 125]]


def test_json_lines_request_of_the_built_in() -> None:
    """The same two pairs, one a line, with the newline that a batch transform leaves at the end."""
    body = '{"in0": [6, 17, 606], "in1": [16, 21, 13]}\n{"in0": [774, 14, 21, 206], "in1": [21, 366, 125]}\n'
    instances = decode(body, LINES)
    assert instances.in0 == [[6, 17, 606], [774, 14, 21, 206]]
    assert instances.in1 == [[16, 21, 13], [21, 366, 125]]


def test_json_reply_is_the_built_in_s() -> None:
    """Compact, same keys and nesting; its widened doubles are the same float32 as our shorter digits."""
    theirs = (
        b'{"predictions":[{"scores":[3.047305107116699]},{"scores":[3.58427882194519]},{"scores":[4.356469631195068]}]}'
    )
    values = [row["scores"][0] for row in json.loads(theirs)["predictions"]]
    ours = wire.encode([scores(value) for value in values], JSON)
    assert ours == b'{"predictions":[{"scores":[3.047305]},{"scores":[3.5842788]},{"scores":[4.3564696]}]}'
    assert [np.float32(row["scores"][0]) for row in json.loads(ours)["predictions"]] == list(map(np.float32, values))


def test_json_lines_reply_is_the_built_in_s() -> None:
    """One object a line, and no newline after the last: batch transform puts its own."""
    ours = wire.encode([scores(0.195667684078216, 0.395351558923721), scores(0.251988261938095, 0.5)], JSON_LINES)
    assert ours == b'{"scores":[0.19566768,0.39535156]}\n{"scores":[0.25198826,0.5]}'


def test_embeddings_of_a_pair_are_named_by_side() -> None:
    """Embedding mode's answer to a pair."""
    one, two = np.array([1.5], np.float32), np.array([-2], np.float32)
    ours = wire.encode([{"embeddings": {"in0": one, "in1": two}}, {"embeddings": one}], JSON)
    assert ours == b'{"predictions":[{"embeddings":{"in0":[1.5],"in1":[-2.0]}},{"embeddings":[1.5]}]}'


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_float32_reads_back_exactly_and_is_short(values: list[float]) -> None:
    """Every float32 comes back bit for bit, in at most the nine digits that any float32 needs."""
    written = wire.encode([scores(*values)], JSON_LINES)
    back = np.array(json.loads(written)["scores"], np.float32)
    assert back.tobytes() == np.array(values, np.float32).tobytes()
    digits = [number.partition("e")[0].strip("-").replace(".", "").strip("0") for number in _numbers(written)]
    assert all(len(number) <= 9 for number in digits)


def _numbers(line: bytes) -> list[str]:
    inside = line.partition(b"[")[2].rstrip(b"]}").decode()
    return inside.split(",") if inside else []


# What a body may be beside that.


def test_other_keys_do_not_matter() -> None:
    """Training lines, with their label, can be sent as they are; so can other members beside `instances`."""
    instances = decode('{"instances": [{"in0": [1], "in1": [2], "label": "x", "id": null}], "configuration": {}}')
    assert (instances.in0, instances.in1) == ([[1]], [[2]])


def test_sides_that_are_absent_are_none() -> None:
    """One side alone asks for an embedding; an empty side is a side."""
    instances = decode('{"instances": [{"in0": [1]}, {"in1": [2]}, {"in0": [], "in1": []}]}')
    assert instances.in0 == [[1], None, []]
    assert instances.in1 == [None, [2], []]


def test_blank_lines_are_no_instances_but_count_as_lines() -> None:
    """A message counts lines as an editor does."""
    instances = decode('\n{"in0": [1]}\r\n \t\n{"in1": [2]}\n\n', LINES)
    assert len(instances) == 2
    assert [instances.name(row) for row in (0, 1)] == ["line 2", "line 4"]


def test_lines_are_counted_on_from_an_earlier_chunk() -> None:
    """A file that is read in chunks has one count of lines."""
    assert wire.decode_lines([b'{"in0": [1]}'], first=8193).name(0) == "line 8193"


def test_parts_keep_their_names() -> None:
    """Row 0 of a part is the instance that it was in the whole."""
    part = decode('{"instances": [{"in0": [1]}, {"in0": [2]}, {"in0": [3]}]}').part(1, 3)
    assert (part.in0, part.name(0), len(part)) == ([[2], [3]], "instances[1]", 2)


def test_no_instances_at_all() -> None:
    """An empty list is answered with an empty list."""
    assert len(decode('{"instances": []}')) == 0
    assert wire.encode([], JSON) == b'{"predictions":[]}'
    assert wire.encode([], JSON_LINES) == b""


@pytest.mark.parametrize("charset", ["latin-1", "utf-16", "utf8", "UTF-8", '"utf-8"'])
def test_charsets(charset: str) -> None:
    """A body is read in the charset that it names."""
    content = wire.to_content(f"application/json; charset={charset}")
    body = '{"instances": [{"in0": [1], "é": 1}]}'.encode(charset.strip('"'))
    assert decode(body, content).in0 == [[1]]


# What is wrong with a body.

WANTS_IDS = "wanted an integer token id"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("{", "unable to evaluate payload provided: not JSON"),
        ("NaN", "unable to evaluate payload provided: not JSON"),
        ('{"instances": []} {}', "unable to evaluate payload provided: not JSON"),
        (b'{"instances": [{"in0": [1], "\xff": 1}]}', "unable to evaluate payload provided: not JSON"),
        ("[" * 100_000, "unable to evaluate payload provided: not JSON"),
        ('[{"in0": [1]}]', "unable to evaluate payload provided: no instances"),
        ('{"in0": [1], "in1": [2]}', "unable to evaluate payload provided: no instances"),
        ('{"instances": {"in0": [1]}}', "unable to evaluate payload provided: instances is an object, wanted a list"),
        ('{"instances": [{"in0": [1]}, 7]}', "instances[1] is 7, wanted an object with in0, in1 or both"),
        ('{"instances": [null]}', "instances[0] is null, wanted an object with in0, in1 or both"),
        ('{"instances": [{"in0": [1]}, {"label": 1}]}', "instances[1] has neither in0 nor in1"),
        (
            '{"instances": [{"in0": "1 2"}]}',
            'instances[0]: in0 is the string "1 2", wanted a list of integer token ids',
        ),
        ('{"instances": [{"in0": [1], "in1": null}]}', "instances[0]: in1 is null, wanted a list of integer token ids"),
        ('{"instances": [{"in0": {"a": 1}}]}', "instances[0]: in0 is an object, wanted a list of integer token ids"),
        ('{"instances": [{"in0": [1, "2"]}]}', f'instances[0]: in0[1] is the string "2", {WANTS_IDS}'),
        ('{"instances": [{"in0": [1, 2.0]}]}', f"instances[0]: in0[1] is 2.0, {WANTS_IDS}"),
        ('{"instances": [{"in1": [true]}]}', f"instances[0]: in1[0] is true, {WANTS_IDS}"),
        ('{"instances": [{"in1": [null]}]}', f"instances[0]: in1[0] is null, {WANTS_IDS}"),
        ('{"instances": [{"in1": [[1]]}]}', f"instances[0]: in1[0] is a list, {WANTS_IDS}"),
        ('{"instances": [{"in1": [1e30]}]}', f"instances[0]: in1[0] is 1e+30, {WANTS_IDS}"),
        (
            '{"instances": [{"in1": [18446744073709551616]}]}',
            f"instances[0]: in1[0] is 1.8446744073709552e+19, {WANTS_IDS}",
        ),
    ],
)
def test_faults_of_json(body: str | bytes, sentence: str) -> None:
    """Each fault in one sentence, with the instance counted from 0."""
    with pytest.raises(RequestError) as raised:
        decode(body)
    assert str(raised.value).startswith(sentence)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 2: unable to evaluate payload provided: not JSON"),
        ("[1]", "line 2 is a list, wanted an object with in0, in1 or both"),
        ('{"instances": [{"in0": [1]}]}', "line 2 has neither in0 nor in1"),
        ('{"in0": [0.5]}', f"line 2: in0[0] is 0.5, {WANTS_IDS}"),
    ],
)
def test_faults_of_json_lines(line: str, sentence: str) -> None:
    """The same with lines, counted from 1."""
    with pytest.raises(RequestError) as raised:
        decode(f'{{"in0": [1]}}\n{line}\n', LINES)
    assert str(raised.value).startswith(sentence)


def test_long_strings_are_shortened_and_nesting_is_no_fault_of_ours() -> None:
    """What a message repeats is short, however long or deep the value is."""
    for value in ("x" * 10**6, [[[[]]]]):
        with pytest.raises(RequestError) as raised:
            decode(json.dumps({"instances": [{"in0": [value]}]}))
        assert len(str(raised.value)) < 120
        assert ("…" in str(raised.value)) == isinstance(value, str)
    with pytest.raises(RequestError, match=r"in0\[0\] is a list"):
        decode('{"instances": [{"in0": [' + "[" * 1000 + "]" * 1000 + "]}]}")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["in0", "in1", "instances", "x"]), inner),
)


@given(json_values)
def test_any_json_is_read_or_refused(value: Any) -> None:
    """No JSON value makes anything but columns of integers or a RequestError."""
    try:
        instances = decode(json.dumps({"instances": value}))
    except RequestError:
        return
    tokens = [
        token for column in (instances.in0, instances.in1) for side in column if side is not None for token in side
    ]
    assert all(type(token) is int for token in tokens)


@given(st.binary())
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Nor do any bytes, in either type."""
    for content in (Content(), LINES, Content(charset="utf-16")):
        with contextlib.suppress(RequestError):
            assert len(decode(body, content)) >= 0


# Content-Type.


def test_no_content_type_is_json() -> None:
    """As the oldest clients send it."""
    assert wire.to_content(None) == wire.to_content("") == Content(type=JSON)


def test_content_type_with_lengths() -> None:
    """The comma in the value is no end of it; names and types are read in either case."""
    content = wire.to_content("Application/JSONLines;Infer_Max_Seqlens=100,50 ; charset=UTF-8")
    assert content == Content(type=JSON_LINES, charset="utf-8", max_seq_lens=(100, 50))
    assert wire.to_content('application/json; infer_max_seqlens="5000, 1"').max_seq_lens == (5000, 1)


@pytest.mark.parametrize("lengths", ["", "10", "10,", "0,10", "10,5001", "-1,10", "1.5,2", "a,b", "1,2,3", "9" * 5000])
def test_bad_lengths(lengths: str) -> None:
    """Anything but two lengths in the range of max_seq_len is told, never guessed."""
    with pytest.raises(RequestError, match="wanted two integers from 1 to 5000"):
        wire.to_content(f"application/json; infer_max_seqlens={lengths}")


@pytest.mark.parametrize(
    "header", ["text/csv", "application/octet-stream", "json", "application/json2", "; charset=utf-8"]
)
def test_other_content_types(header: str) -> None:
    """415 with what was got and what is read."""
    with pytest.raises(UnsupportedMediaTypeError, match="wanted application/json or application/jsonlines"):
        wire.to_content(header)


@pytest.mark.parametrize("charset", ["klingon", "", "\0"])
def test_charsets_that_do_not_exist(charset: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError, match="wanted utf-8"):
        wire.to_content(f"application/json; charset={charset}")


def test_body_that_is_not_in_its_charset() -> None:
    with pytest.raises(RequestError, match="not ascii"):
        decode('{"é": 1}', wire.to_content("application/json; charset=ascii"))


content_types = (
    st.text()
    | st.text().map("application/json;charset={}".format)
    | st.text("0123456789,-. ²").map("application/json;infer_max_seqlens={}".format)
)


@given(content_types)
def test_any_content_type_is_read_or_refused(header: str) -> None:
    """No header makes anything but a content or a RequestError."""
    with contextlib.suppress(RequestError):
        assert wire.to_content(header).type in wire.TYPES


@given(
    st.text() | st.lists(st.sampled_from(["application/json", "*/*", ";", ",", "q=", "0.5", "inf", "1e9"])).map("".join)
)
def test_any_accept_is_read_or_refused(header: str) -> None:
    with contextlib.suppress(NotAcceptableError):
        assert wire.to_reply_type(header, JSON) in wire.TYPES


# Accept.


@pytest.mark.parametrize(
    ("accept", "default", "wanted"),
    [
        (None, JSON, JSON),
        (None, JSON_LINES, JSON_LINES),
        ("", JSON_LINES, JSON_LINES),
        ("*/*", JSON_LINES, JSON_LINES),
        ("*/*", JSON, JSON),
        ("application/*", JSON_LINES, JSON_LINES),
        (JSON, JSON_LINES, JSON),
        (JSON_LINES, JSON, JSON_LINES),
        ("Application/JSON; charset=utf-8", JSON_LINES, JSON),
        ("text/csv, application/jsonlines", JSON, JSON_LINES),
        ("application/json;q=0.5, application/jsonlines;q=0.9", JSON, JSON_LINES),
        ("application/json;q=0.5, */*;q=0.1", JSON_LINES, JSON),
        ("application/json;q=0, */*", JSON, JSON_LINES),
        ("application/jsonlines;q=nan, application/json;q=0.1", JSON_LINES, JSON),
    ],
)
def test_reply_types(accept: str | None, default: str, wanted: str) -> None:
    """What a client likes best; where it does not care, the default, which is the request's own type."""
    assert wire.to_reply_type(accept, default) == wanted


@pytest.mark.parametrize(
    "accept", ["text/csv", "text/*", "*/*;q=0", "application/json;q=0", "application/json;q=x", ";;"]
)
def test_no_reply_type(accept: str) -> None:
    """406 with what was got and what can be sent."""
    with pytest.raises(NotAcceptableError, match="wanted application/json or application/jsonlines"):
        wire.to_reply_type(accept, JSON)
