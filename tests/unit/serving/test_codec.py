"""Requests and replies as bytes: the built-in's samples, every fault of a body in its sentence, and negotiation."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from object2vec.data.media_types import JSON, JSON_LINES
from object2vec.errors import RequestError, UnsupportedMediaTypeError
from object2vec.ops import library
from object2vec.serving import codec
from object2vec.serving.headers import Content, to_content
from object2vec.serving.instances import EMPTY, Answers, InputWarning, Instances, Vectors

LINES = Content(type=JSON_LINES)


def encode(parts: list[Answers], kind: str, warnings: Sequence[InputWarning] = ()) -> bytes:
    return b"".join(codec.encode(parts, kind, sum(part.count for part in parts), warnings))


def decode(body: str | bytes, content: Content | None = None) -> Instances:
    return codec.decode(body.encode() if isinstance(body, str) else body, content or Content())


def sides(instances: Instances) -> list[list[list[int] | None]]:
    """Return in0 and in1 of each instance; None for an absent side."""
    found = []
    for column in instances.columns:
        given: list[list[int] | None] = [None] * len(instances)
        values, offsets = column.sequences.values.tolist(), column.sequences.offsets.tolist()
        for row, start, stop in zip(column.rows.tolist(), offsets, offsets[1:], strict=False):
            given[row] = values[start:stop]
        found.append(given)
    return found


def vectors(*rows: list[float] | None) -> Vectors:
    """Return a vector for each row that has one."""
    has = [row for row, vector in enumerate(rows) if vector is not None]
    values = [vector for vector in rows if vector is not None]
    return Vectors(np.array(has, np.int64), np.array(values, np.float32))


def scores(*rows: list[float]) -> list[Answers]:
    return [Answers(count=len(rows), scores=vectors(*rows), embeddings=(EMPTY, EMPTY))]


# What the built-in takes and sends.


def test_json_request_of_the_built_in() -> None:
    """Its sample of two pairs becomes two columns."""
    pairs = '{"in0": [6, 17, 606], "in1": [16, 21, 13]}, {"in0": [774, 14, 21, 206], "in1": [21, 366, 125]}'
    instances = decode(f'{{"instances": [{pairs}]}}')
    assert sides(instances) == [[[6, 17, 606], [774, 14, 21, 206]], [[16, 21, 13], [21, 366, 125]]]


def test_json_lines_request_of_the_built_in() -> None:
    """The same two pairs as lines, with the final newline of a batch transform."""
    body = '{"in0": [6, 17, 606], "in1": [16, 21, 13]}\n{"in0": [774, 14, 21, 206], "in1": [21, 366, 125]}\n'
    instances = decode(body, LINES)
    assert sides(instances) == [[[6, 17, 606], [774, 14, 21, 206]], [[16, 21, 13], [21, 366, 125]]]


def test_json_reply_has_the_form_of_the_builtin() -> None:
    """Keys and nesting are the same; shorter digits give the same float32."""
    theirs = (
        b'{"predictions":[{"scores":[3.047305107116699]},{"scores":[3.58427882194519]},{"scores":[4.356469631195068]}]}'
    )
    values = [row["scores"][0] for row in json.loads(theirs)["predictions"]]
    ours = encode(scores(*([value] for value in values)), JSON)
    assert ours == b'{"predictions":[{"scores":[3.047305]},{"scores":[3.5842788]},{"scores":[4.3564696]}]}'
    assert [np.float32(row["scores"][0]) for row in json.loads(ours)["predictions"]] == list(map(np.float32, values))


def test_json_lines_reply_has_the_form_of_the_builtin() -> None:
    """There is no newline after the last object: batch transform adds its own."""
    ours = encode(scores([0.195667684078216, 0.395351558923721], [0.251988261938095, 0.5]), JSON_LINES)
    assert ours == b'{"scores":[0.19566768,0.39535156]}\n{"scores":[0.25198826,0.5]}'


def test_embeddings_of_a_pair_are_named_by_side() -> None:
    """Embedding mode answers a pair this way."""
    mixed = Answers(count=2, scores=EMPTY, embeddings=(vectors([1.5], [1.5]), vectors([-2], None)))
    assert encode([mixed], JSON) == (
        b'{"predictions":[{"embeddings":{"in0":[1.5],"in1":[-2.0]}},{"embeddings":[1.5]}]}'
    )


def test_uniform_embeddings_equal_single_ones() -> None:
    """They are written together, with the bytes of single answers."""
    uniform = Answers(count=2, scores=EMPTY, embeddings=(EMPTY, vectors([1.5, 2], [3, 4])))
    assert encode([uniform], JSON) == b'{"predictions":[{"embeddings":[1.5,2.0]},{"embeddings":[3.0,4.0]}]}'
    assert encode([uniform], JSON_LINES) == b'{"embeddings":[1.5,2.0]}\n{"embeddings":[3.0,4.0]}'


def test_answers_of_every_kind_keep_their_order() -> None:
    mixed = Answers(
        count=3, scores=vectors(None, [1], None), embeddings=(vectors([2], None, None), vectors(None, None, [3]))
    )
    assert encode([mixed], JSON_LINES) == b'{"embeddings":[2.0]}\n{"scores":[1.0]}\n{"embeddings":[3.0]}'


def test_body_does_not_depend_on_its_parts() -> None:
    """Answers in several parts give the body of one part."""
    parts = [*scores([1], [2]), *scores([3])]
    for kind in (JSON, JSON_LINES):
        assert encode(parts, kind) == encode(scores([1], [2], [3]), kind)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_float32_reads_back_exactly_and_is_short(values: list[float]) -> None:
    """Every float32 is read back bit for bit; it has at most nine digits."""
    written = encode(scores(values), JSON_LINES)
    back = np.array(json.loads(written)["scores"], np.float32)
    assert back.tobytes() == np.array(values, np.float32).tobytes()
    digits = [number.partition("e")[0].strip("-").replace(".", "").strip("0") for number in _numbers(written)]
    assert all(len(number) <= 9 for number in digits)


def _numbers(line: bytes) -> list[str]:
    inside = line.partition(b"[")[2].rstrip(b"]}").decode()
    return inside.split(",") if inside else []


# What a body may be beside that.


def test_other_keys_are_ignored() -> None:
    """Training lines with a label can be sent, and so can other members next to `instances`."""
    instances = decode('{"instances": [{"in0": [1], "in1": [2], "label": "x", "id": null}], "configuration": {}}')
    assert sides(instances) == [[[1]], [[2]]]


def test_absent_sides_are_none() -> None:
    """A single side asks for an embedding; an empty side is present."""
    instances = decode('{"instances": [{"in0": [1]}, {"in1": [2]}, {"in0": [], "in1": []}]}')
    assert sides(instances) == [[[1], None, []], [None, [2], []]]


@pytest.mark.parametrize(
    ("instance", "wanted"),
    [
        ('{"in0": [1], "in1": null}', ([1], None)),
        ('{"in0": null, "in1": [2], "label": null}', (None, [2])),
        ('{"in0": [], "in1": null}', ([], None)),
        ('{"in0": [1.0, 2], "in1": [3.0]}', ([1, 2], [3])),
        ('{"in0": [1e0, 1E3, -0.0], "in1": [12e-1, 3.0]}', None),
        ('{"in0": [1e0, 1E3, -0.0], "in1": [120e-1]}', ([1, 1000, 0], [12])),
    ],
)
def test_null_sides_and_whole_floats_are_read(
    instance: str, wanted: tuple[list[int] | None, list[int] | None] | None
) -> None:
    """pandas writes missing values, and integers of a column with gaps, this way."""
    for body, content in ((f'{{"instances": [{instance}]}}', Content()), (f"{instance}\n", LINES)):
        if wanted is None:
            with pytest.raises(RequestError, match=r"in1\[0\] is 1.2, wanted an integer token id"):
                decode(body, content)
        else:
            assert sides(decode(body, content)) == [[wanted[0]], [wanted[1]]]


@given(st.lists(st.integers(-(2**31), 2**53 - 1).map(float), min_size=1))
def test_any_whole_float_is_its_integer(ids: list[float]) -> None:
    [column, _] = decode(json.dumps({"instances": [{"in0": ids}]})).columns
    assert [column.locate(place)[1] for place in range(len(ids))] == list(map(int, ids))


@pytest.mark.parametrize("line", ['{"in0": [1], "in1": [2]}', '{"in0": [1], "in1": [2], "x": "é"}'])
def test_byte_order_mark_is_skipped(line: str) -> None:
    """A body of either type may begin with one."""
    for text, content in ((f'{{"instances": [{line}]}}', ""), (f"{line}\n{line}", "lines")):
        kind = "application/jsonlines" if content else "application/json"
        assert sides(decode(b"\xef\xbb\xbf" + text.encode(), to_content(kind)))[0][0] == [1]
        for charset in ("utf-16", "utf-16-le", "utf-32-be", "utf-8-sig"):
            body = ("\ufeff" + text).encode(charset)
            assert sides(decode(body, to_content(f"{kind}; charset={charset}")))[0][0] == [1]


# The format of a body whose Content-Type leaves it open.


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b'{"instances": [{"in0": [1]}]}', JSON),
        (b'\xef\xbb\xbf \n{ "instances" : []}', JSON),
        (b'{\n "configuration": {},\n "instances": []\n}', JSON),
        (b'{"configuration": {}, "instances": [{"in0": [1]}]}', JSON),
        (b'[{"in0": [1]}]', JSON),
        (b'{"in0": [1]}', JSON_LINES),
        (b'\n\n{"in0": [1]}\n{"in1": [1]}\n', JSON_LINES),
        (b'\xef\xbb\xbf{"id": 7, "in1": [1]}\r\n{"id": 8, "in0": [1]}', JSON_LINES),
        (b'{"label": 1, "in0": [1', JSON_LINES),
        (b'{"in0": [' + b"1," * 2**16 + b"1]}", JSON_LINES),
    ],
)
@pytest.mark.parametrize("header", [None, "application/octet-stream", "application/x-www-form-urlencoded"])
def test_format_by_content(body: bytes, wanted: str, header: str | None) -> None:
    content = codec.identify(body, to_content(header))
    assert (content.type, content.name) == (wanted, wanted)


def test_format_by_content_in_another_charset() -> None:
    content = codec.identify('{"in0": [1]}\n'.encode("utf-16"), to_content("text/plain; charset=utf-16"))
    assert (content.type, content.charset) == (JSON_LINES, "utf-16")


@pytest.mark.parametrize("body", [b"1,2,3", b"in0=1&in1=2", b"\x00\x01", b"instances", b'"{"', b"<html>"])
def test_content_that_is_not_json_is_refused(body: bytes) -> None:
    """With a named type the status is 415; without one the error has the built-in's words."""
    for header in ("application/octet-stream", "text/plain"):
        with pytest.raises(UnsupportedMediaTypeError, match=f"'{header}' is not supported, wanted application/json"):
            codec.identify(body, to_content(header))
    assert codec.identify(body, to_content(None)) == Content()


def test_named_type_overrides_the_content() -> None:
    for kind in (JSON, JSON_LINES):
        content = to_content(kind)
        assert codec.identify(b'{"in0": [1]}', content) is content


@given(st.binary(max_size=50) | st.text('{}[]":, in0stace', max_size=40).map(str.encode))
def test_the_format_of_any_bytes(body: bytes) -> None:
    with contextlib.suppress(UnsupportedMediaTypeError):
        assert codec.identify(body, to_content("text/plain")).type in (JSON, JSON_LINES)


# Warnings in answers.


def test_warnings_in_answers() -> None:
    """Only instances with a warning get the key, in any part."""
    warnings = [
        InputWarning(kind="truncated", side="in0", rows=np.array([2])),
        InputWarning(kind="no_tokens", side="in1", rows=np.array([0, 2])),
    ]
    parts = [*scores([1], [2]), *scores([3])]
    whole = json.loads(encode(parts, JSON, warnings))["predictions"]
    assert whole == [json.loads(line) for line in encode(parts, JSON_LINES, warnings).splitlines()]
    assert whole == [
        {"scores": [1.0], "warnings": [{"side": "in1", "kind": "no_tokens"}]},
        {"scores": [2.0]},
        {"scores": [3.0], "warnings": [{"side": "in0", "kind": "truncated"}, {"side": "in1", "kind": "no_tokens"}]},
    ]
    assert encode(parts, JSON, []) == encode(parts, JSON)


def test_blank_lines_are_no_instances_but_count_as_lines() -> None:
    """Messages count lines like an editor."""
    instances = decode('\n{"in0": [1]}\r\n \t\n{"in1": [2]}\n\n', LINES)
    assert len(instances) == 2
    assert [instances.name(row) for row in (0, 1)] == ["line 2", "line 4"]


def test_line_numbers_continue_in_later_chunks() -> None:
    """A file that is read in chunks has one count of lines."""
    for line in (b'{"in0": [1]}', b'{"in0": [1], "x": 1}'):
        assert codec.decode(line, LINES, 8193).name(0) == "line 8193"


def test_empty_list_gives_an_empty_list() -> None:
    """An empty reply of JSON Lines has no bytes."""
    assert len(decode('{"instances": []}')) == 0
    assert encode([], JSON) == b'{"predictions":[]}'
    assert encode([], JSON_LINES) == b""


@pytest.mark.parametrize("charset", ["latin-1", "utf-16", "utf8", "UTF-8", '"utf-8"'])
def test_body_is_read_in_its_charset(charset: str) -> None:
    """The Content-Type names the charset."""
    content = to_content(f"application/json; charset={charset}")
    body = '{"instances": [{"in0": [1], "é": 1}]}'.encode(charset.strip('"'))
    assert sides(decode(body, content))[0] == [[1]]


plain_sides = st.lists(st.integers(0, 10**9 - 1), max_size=4)
plain_instances = st.lists(
    st.dictionaries(st.sampled_from(["in0", "in1"]), plain_sides, min_size=1)
    | st.fixed_dictionaries({"in0": plain_sides, "label": st.integers(-9, 9) | st.sampled_from([0.5, -1.25])})
)


@pytest.mark.skipif(not library.available(), reason="there is one way to read a body without kernels")
@given(plain_instances, st.sampled_from([None, 1]))
def test_kernel_and_orjson_read_the_same_instances(records: list[dict[str, Any]], indent: int | None) -> None:
    """The kernel reads the plain form with any white space."""
    document = json.dumps({"instances": records}, indent=indent).encode()
    lines = b"\r\n \n".join(json.dumps(record).encode() for record in records)
    for content, body in ((Content(), document), (LINES, lines)):
        plain, other = codec.decode_plain(body, content, 1), codec.decode_any(body, content, 1)
        assert plain is not None
        assert sides(plain) == sides(other)
        assert [plain.name(row) for row in range(len(plain))] == [other.name(row) for row in range(len(other))]


@pytest.mark.skipif(not library.available(), reason="there is one way to read a body without kernels")
@given(st.text('[]{}:,"0123456789.- \nin01labesct', max_size=60), st.booleans())
def test_kernel_accepts_only_json(text: str, document: bool) -> None:
    """orjson reads everything that the kernel accepts, with the same result."""
    content = Content() if document else LINES
    for body in (text, '{"instances": [{"in0": [1' + text, '{"in0": [1' + text):
        plain = codec.decode_plain(body.encode(), content, 1)
        if plain is not None:
            assert sides(plain) == sides(codec.decode_any(body.encode(), content, 1))


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
        ('{"instances": [{"in0": null, "in1": null}]}', "instances[0] has neither in0 nor in1"),
        ('{"instances": [{"in0": [1], "in1": 2.0}]}', "instances[0]: in1 is 2.0, wanted a list of integer token ids"),
        ('{"instances": [{"in0": {"a": 1}}]}', "instances[0]: in0 is an object, wanted a list of integer token ids"),
        ('{"instances": [{"in0": [1, "2"]}]}', f'instances[0]: in0[1] is the string "2", {WANTS_IDS}'),
        ('{"instances": [{"in0": [1.0, 1.5]}]}', f"instances[0]: in0[1] is 1.5, {WANTS_IDS}"),
        ('{"instances": [{"in0": [1.0, true]}]}', f"instances[0]: in0[1] is true, {WANTS_IDS}"),
        ('{"instances": [{"in0": [1], "in1": [2],}]}', "unable to evaluate payload provided: not JSON"),
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
def test_invalid_json_is_named(body: str | bytes, sentence: str) -> None:
    """Each error is one sentence with the instance, counted from 0."""
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
        ('{"in0": null}', "line 2 has neither in0 nor in1"),
        ('\ufeff{"in0": [1]}', "line 2: unable to evaluate payload provided: not JSON"),
    ],
)
def test_invalid_json_lines_are_named(line: str, sentence: str) -> None:
    """Each error is one sentence with the line, counted from 1."""
    with pytest.raises(RequestError) as raised:
        decode(f'{{"in0": [1]}}\n{line}\n', LINES)
    assert str(raised.value).startswith(sentence)


def test_long_and_deep_values_are_shortened_in_messages() -> None:
    """A message is short, even if the value is long or deeply nested."""
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
    """Any JSON value gives columns of integers or a RequestError."""
    try:
        instances = decode(json.dumps({"instances": value}))
    except RequestError:
        return
    assert all(column.sequences.values.dtype == np.int32 for column in instances.columns)


@given(st.binary())
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """The same holds for any bytes, in either type."""
    for content in (Content(), LINES, Content(charset="utf-16")):
        with contextlib.suppress(RequestError):
            assert len(decode(body, content)) >= 0


def test_body_that_is_not_in_its_charset() -> None:
    with pytest.raises(RequestError, match="not ascii"):
        decode('{"é": 1}', to_content("application/json; charset=ascii"))


@pytest.mark.parametrize(
    ("body", "format_"),
    [
        (gzip.compress(b'{"instances": []}', mtime=0), "gzip data"),
        ('{"instances": []}'.encode("utf-16"), "UTF-16 text; save it as UTF-8"),
        (b"PAR1\0\0", "a Parquet file; save it as JSON Lines"),
    ],
)
@pytest.mark.parametrize("kind", [JSON, JSON_LINES])
def test_formats_that_are_not_json_are_named(kind: str, body: bytes, format_: str) -> None:
    with pytest.raises(RequestError, match=f"unable to evaluate payload provided: {format_}$"):
        codec.decode(body, to_content(kind))


@pytest.mark.parametrize(
    ("end", "name"),
    [
        (b"\x1a", "a Ctrl-Z character (0x1A)"),
        (b"\r\n\x1a\r\n", "a Ctrl-Z character (0x1A)"),
        (3 * b"\0", "a NUL character (0x00)"),
    ],
)
@pytest.mark.parametrize("content", [Content(), LINES])
def test_control_character_at_the_end_is_named(end: bytes, name: str, content: Content) -> None:
    """Editors of DOS write Ctrl-Z; programs in C send the NUL of a string."""
    body = b'{"instances": [{"in0": [1]}], "in0": [1]}' + end
    line = f"line {1 + end.startswith(bytes([13]))}: " if content is LINES else ""
    with pytest.raises(RequestError) as raised:
        codec.decode(body, content)
    assert str(raised.value) == f"{line}{codec.BUILTIN_ERROR}: {name} after the JSON, wanted nothing there"


def test_control_character_is_named_only_if_it_is_the_error() -> None:
    with pytest.raises(RequestError, match="not JSON"):
        codec.decode(b'{"instances": [\x1a', Content())
