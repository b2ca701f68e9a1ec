"""Decoding of request bodies and encoding of answers.

Pure functions over bytes. Nothing here knows HTTP, a model or a file. The formats of requests and of replies:

    application/json        {"instances": [{"in0": [1, 2], "in1": [3]}]}    {"predictions":[{"scores":[0.25,0.75]}]}
    application/jsonlines   {"in0": [1, 2], "in1": [3]}                     {"scores":[0.25,0.75]}
    text/csv                (requests alone, for models with a schema)
    application/x-npy       (replies alone)                                 the numbers as one array of numpy's

A float32 is written with the fewest digits that read back as the same float32.
"""

from __future__ import annotations

import io
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import orjson

from object2vec.data.files import GZIP_MAGIC, describe_encoding, describe_format
from object2vec.data.media_types import CSV, JSON, JSON_LINES
from object2vec.data.records import SIDES, Side
from object2vec.data.sequences import Sequences
from object2vec.errors import NotAcceptableError, RequestError
from object2vec.ops import requests as requests_ops
from object2vec.ops.requests import RequestColumns
from object2vec.schema.schema import Schema
from object2vec.serving.headers import NPY, Content, unsupported
from object2vec.serving.instances import Answers, Column, InputWarning, Instances, is_id
from object2vec.serving.raw_csv import decode_csv, decode_plain_csv
from object2vec.serving.raw_values import encode_raw, encode_request, is_utf8
from object2vec.serving.top_k import KEYS

#: What a body of answers begins with, has between them, and ends with.
FRAMING: Final = {JSON: (b'{"predictions":[', b",", b"]}"), JSON_LINES: (b"", b"\n", b"")}
#: Bytes of a body that decide its format.
HEAD_BYTES: Final = 2**16
#: Control characters that tools leave at the end of a text.
TRAILING_CHARACTERS: Final = {b"\0": "a NUL character (0x00)", b"\x1a": "a Ctrl-Z character (0x1A)"}
#: How most documents and most lines begin.
BODY_START: Final = re.compile(rb'\{\s*"(instances|in0|in1|label)"\s*:')
#: A document up to this size is read as a whole before it is known that its model can be loaded.
MAX_EARLY_BYTES: Final = 2**20
#: A side that is no list.
RAW_VALUE: Final = re.compile(rb'"in[01]"\s*:\s*[^\s\[]')
# What the built-in says to a body without `instances`; clients look for it.
BUILTIN_ERROR: Final = "unable to evaluate payload provided"


def identify(body: bytes, content: Content) -> Content:
    """Return the content with the format of the body, where its Content-Type leaves that open.

    Raises:
        UnsupportedMediaTypeError: a generic Content-Type, and a body that is no JSON.
    """
    if content.type:
        return content
    kind = _format(body[:HEAD_BYTES].decode(content.charset, "ignore").lstrip("\ufeff \t\r\n").encode())
    if not kind and content.name:
        raise unsupported(content.name)
    return replace(content, type=kind or JSON, name=kind or JSON)


def _format(head: bytes) -> str:
    """Return the format of a body that begins with `head`; empty for what is neither."""
    if head[:1] not in (b"{", b"["):
        return ""
    if start := BODY_START.match(head):
        return JSON if start[1] == b"instances" else JSON_LINES
    try:
        record = orjson.loads(head.partition(b"\n")[0])
    except orjson.JSONDecodeError:
        return JSON
    return JSON_LINES if isinstance(record, dict) and not record.keys().isdisjoint(SIDES) else JSON


def decode(body: bytes, content: Content, first: int = 1, schema: Schema | None = None) -> Instances:
    """Read a request body; `first` is the number of its first line. Raw values go through the schema.

    Raises:
        RequestError: the body, or an instance in it, is not what its type says.
    """
    body = body.removeprefix(BOM_UTF8)
    plain = decode_plain(body, content, first, schema)
    return decode_any(body, content, first, schema) if plain is None else plain


def is_raw(body: bytes) -> bool:
    """Return whether a body seems to have raw values, from its first 256 bytes."""
    return RAW_VALUE.search(body, 0, 256) is not None


def decode_plain(body: bytes, content: Content, first: int = 1, schema: Schema | None = None) -> Instances | None:
    """Read a body in the form that nearly all have, without an object made of each token; None if it is another.

    Raw values make another form, unless there is a schema.
    """
    if content.charset != "utf-8":
        return None
    if content.type == CSV:
        return decode_plain_csv(body, schema, first) if schema else None
    document = content.type == JSON
    tables = schema.tables if schema and is_utf8(body) else None
    found = requests_ops.read_instances(body, document=document, tables=tables)
    if found is None:
        return None
    numbers = range(len(found.numbers)) if document else found.numbers + (first - 1)
    label = "instances[{}]" if document else "line {}"
    if schema is None or not any(found.raw_counts):
        left, right = map(Column, found.rows, map(Sequences, found.values, found.offsets))
        return Instances(columns=(left, right), label=label, numbers=numbers)
    encoded = encode_request(schema, found)
    if encoded is None:
        return None
    columns, warnings = encoded
    raw = partial(_raw_records, body, content, found)
    return Instances(columns=columns, label=label, numbers=numbers, warnings=warnings, raw=raw)


def _raw_records(body: bytes, content: Content, found: RequestColumns) -> dict[int, dict[str, Any]]:
    """Return the records of instances with raw values."""
    if content.type == JSON:
        records = orjson.loads(body)["instances"]
    else:
        records = [orjson.loads(line) for line in body.split(b"\n") if line.strip()]
    counts = zip(found.rows, found.raw_counts, strict=True)
    return {row: records[row] for rows, raw in counts if raw for row in rows.tolist()}


def decode_any(body: bytes, content: Content, first: int = 1, schema: Schema | None = None) -> Instances:
    """Read a body in any form, as `decode` does."""
    if content.charset != "utf-8":
        body = _to_utf8(body, content.charset)
    if content.type == JSON:
        return _decode_json(body, schema)
    if content.type == CSV:
        if schema is None:
            raise unsupported(content.name)
        return decode_csv(body, schema, first)
    numbers: list[int] = []
    records: list[Any] = []
    for number, line in enumerate(body.split(b"\n"), start=first):
        if not line.strip():
            continue
        try:
            records.append(_parse(line, f"line {number}: "))
        except RequestError:
            _to_instances(records, numbers, "line {}", schema)  # an earlier line may have an error
            raise
        numbers.append(number)
    return _to_instances(records, numbers, "line {}", schema)


def check_one_array(instances: Instances, *, scored: bool) -> None:
    """Check that the answers make one array; pairs are answered with scores if `scored`.

    Raises:
        NotAcceptableError: they do not.
    """
    if not instances.uniform:
        raise NotAcceptableError(f"{NPY} is one array, wanted instances that are all pairs or all of the same side")
    if not scored and all(map(len, instances.columns)):
        raise NotAcceptableError(
            f"{NPY} is one array, and a pair in embedding mode has two embeddings, wanted in0 and in1 in requests of"
            " their own, or another Accept"
        )


def decode_first(body: bytes, content: Content, schema: Schema | None = None) -> Instances | None:
    """Read the first instance of JSON Lines, or a short document, without the kernels; None of another body.

    Raises:
        RequestError: see `decode`.
    """
    if content.charset != "utf-8":
        return None
    body = body.removeprefix(BOM_UTF8)
    if content.type in (JSON, CSV):
        return decode_any(body, content, schema=schema) if len(body) <= MAX_EARLY_BYTES else None
    for number, line in enumerate(io.BytesIO(body), start=1):
        if line.strip():
            return decode_any(line, content, number, schema)
    return None


def encode(
    answers: Iterable[Answers],
    kind: str,
    count: int,
    warnings: Sequence[InputWarning] = (),
    raw: Mapping[int, Mapping[str, Any]] | None = None,
) -> Iterator[bytes]:
    """Write `count` answers as a body of a type, in parts that are not empty, each when it is asked for.

    In JSON, the answer to an instance with `warnings` names them; columns with unknown values are under `unknown`.
    `raw` has values that are written before an answer, by the number of the instance.

    Raises:
        NotAcceptableError: answers of several kinds for one array; `check_one_array` says so earlier.
    """
    return _encode_array(answers, count) if kind == NPY else _encode_json(answers, kind, warnings, raw or {})


def _encode_json(
    answers: Iterable[Answers], kind: str, warnings: Sequence[InputWarning], raw: Mapping[int, Mapping[str, Any]]
) -> Iterator[bytes]:
    before, between, end = FRAMING[kind]
    start = 0
    for part in answers:
        if part.count:
            added = _by_row(warnings, start, start + part.count) if warnings else {}
            own = {row: raw.get(start + row, {}) for row in range(part.count)} if raw else {}
            yield before + _join(between, part, own, added)
            before = between
        start += part.count
    if end:
        yield end if before is between else before + end


def _by_row(warnings: Sequence[InputWarning], start: int, stop: int) -> Mapping[int, dict[str, list[Any]]]:
    """Return what warnings add to the answers from `start` up to `stop`, counted from `start`."""
    of_rows: dict[int, dict[str, list[Any]]] = {}
    for warning in warnings:
        first, last = np.searchsorted(warning.rows, (start, stop))
        unknown = warning.kind == "unknown"
        value = warning.column if unknown else {"side": warning.side, "kind": warning.kind}
        for row in (warning.rows[first:last] - start).tolist():
            of_rows.setdefault(row, {}).setdefault("unknown" if unknown else "warnings", []).append(value)
    return of_rows


def _encode_array(answers: Iterable[Answers], count: int) -> Iterator[bytes]:
    """Write the vectors as numpy does: an array (count, D) of float32."""
    first: tuple[str, int] | None = None
    for part in answers:
        if part.found:
            raise NotAcceptableError(f"{NPY} is one array, and top_k is answered with records, wanted another Accept")
        key, vectors = part.uniform or ("", np.empty((0, 0), np.float32))
        kind = key, vectors.shape[1]
        if not key or kind != (first or kind):
            raise NotAcceptableError(f"{NPY} is one array, wanted answers of one kind")
        yield vectors.tobytes() if first else _array_header((count, kind[1])) + vectors.tobytes()
        first = kind
    if first is None:
        yield _array_header((0, 0))


def _array_header(shape: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


def _join(
    between: bytes, answers: Answers, raw: Mapping[int, Mapping[str, Any]], added: Mapping[int, Mapping[str, Any]]
) -> bytes:
    """Return the answers as JSON objects, each after its raw values and before what is added to it."""
    uniform = answers.uniform
    if uniform is None:
        records = ({**raw.get(row, {}), **answer, **added.get(row, {})} for row, answer in enumerate(answers))
        return between.join(map(_dump, records))
    key, vectors = uniform
    start, end = b'{"%s":[' % key.encode(), b"]}"
    text = _dump(vectors)[2:-2]  # written all together: [[1,2],[3,4]] without its outer brackets
    if not raw and not added:
        return start + text.replace(b"],[", end + between + start) + end
    rows = text.split(b"],[")
    if raw:
        vector_texts = (orjson.Fragment(b"[%b]" % row) for row in rows)
        records = ({**raw[row], key: vector, **added.get(row, {})} for row, vector in enumerate(vector_texts))
        return between.join(map(_dump, records))
    for row, lists in added.items():
        rows[row] += b"]," + _dump(lists)[1:-2]  # `end` closes the last list
    return start + (end + between + start).join(rows) + end


def _dump(value: object) -> bytes:
    return orjson.dumps(value, str, orjson.OPT_SERIALIZE_NUMPY)  # str: decimals of a table


def _parse(text: bytes, where: str = "") -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        head = text[:HEAD_BYTES]
        known = "gzip data" if head.startswith(GZIP_MAGIC) else describe_format(head) or describe_encoding(head)
        known = known or _describe_end(text)
        reason = known or f"not JSON ({error.msg} at character {error.pos + 1})"
        raise RequestError(f"{where}{BUILTIN_ERROR}: {reason}") from None


def _describe_end(text: bytes) -> str:
    """Return the control character that follows a JSON value; an empty string if the text has another error."""
    content = text.rstrip()
    if name := TRAILING_CHARACTERS.get(content[-1:]):
        with suppress(orjson.JSONDecodeError):
            orjson.loads(content.rstrip(content[-1:]) or b"0")
            return f"{name} after the JSON, wanted nothing there"
    return ""


def _decode_json(body: bytes, schema: Schema | None) -> Instances:
    document = _parse(body)
    if not isinstance(document, dict) or "instances" not in document:
        raise RequestError(f'{BUILTIN_ERROR}: no instances, wanted an object like {{"instances": [{{"in0": [1, 2]}}]}}')
    records = document["instances"]
    if not isinstance(records, list):
        raise RequestError(f"{BUILTIN_ERROR}: instances is {_describe(records)}, wanted a list")
    return _to_instances(records, range(len(records)), "instances[{}]", schema)


def _to_instances(records: list[Any], numbers: Sequence[int], label: str, schema: Schema | None) -> Instances:
    asked: dict[int, Mapping[str, Any]] = {}
    sides: tuple[list[list[int] | None], ...] = ([], [])
    raw: tuple[dict[int, Any], dict[int, Any]] = ({}, {})

    def name(row: int) -> str:
        return label.format(numbers[row])

    try:
        for row, record in enumerate(records):
            _add_sides(record, row, sides, raw, has_raw=schema is not None)
            if not KEYS.isdisjoint(record):
                asked[row] = {key: record[key] for key in KEYS & record.keys()}
    except RequestError as error:
        if schema:
            encode_raw(schema, raw, name)  # an earlier instance may have an error
        raise RequestError(f"{label.format(numbers[row])}{error}") from None
    warnings: tuple[InputWarning, ...] = ()
    if schema and (raw[0] or raw[1]):
        encoded, warnings = encode_raw(schema, raw, name)
        for column, found in zip(sides, encoded, strict=True):
            for row, ids in found.items():
                column[row] = ids if column[row] is None else column[row]
    left, right = map(Column.from_lists, sides)
    objects = {row: records[row] for row in (*raw[0], *raw[1])}
    return Instances(
        columns=(left, right), label=label, numbers=numbers, warnings=warnings, raw=lambda: objects, asked=asked
    )


def _add_sides(
    record: Any, row: int, sides: tuple[list[list[int] | None], ...], raw: tuple[dict[int, Any], ...], *, has_raw: bool
) -> None:
    """Add a list of token ids or None to each side, and a raw value to those of the side.

    Raises:
        RequestError: the record is no instance; the message lacks the name of the instance.
    """
    if not isinstance(record, dict):
        raise RequestError(f" is {_describe(record)}, wanted an object with in0, in1 or both")
    if record.get("in0") is None and record.get("in1") is None:  # as null, which pandas writes for a missing value
        raise RequestError(" has neither in0 nor in1")
    for side, column, values in zip(SIDES, sides, raw, strict=True):
        tokens = record.get(side)
        ids = tokens if tokens is None else _to_ids(tokens)
        if ids is None and tokens is not None:
            if not has_raw or isinstance(tokens, list):
                raise RequestError(f": {_describe_error(side, tokens)}")
            values[row] = tokens
        column.append(ids)


def _to_ids(tokens: Any) -> list[int] | None:
    """Return a list of token ids as integers; None if it is anything else."""
    if not isinstance(tokens, list):
        return None
    types = set(map(type, tokens))
    if types <= {int}:
        return tokens
    if types <= {int, float} and all(map(is_id, tokens)):
        return list(map(int, tokens))
    return None


def _describe_error(side: Side, tokens: Any) -> str:
    if not isinstance(tokens, list):
        return f"{side} is {_describe(tokens)}, wanted a list of integer token ids"
    position, token = next((i, token) for i, token in enumerate(tokens) if not is_id(token))
    return f"{side}[{position}] is {_describe(token)}, wanted an integer token id"


def _describe(value: Any) -> str:
    """Return a JSON value in a few words. Lists and objects are only named, because they can be deep or long."""
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, str):
        return f"the string {_dump(value[:40]).decode()}{'…' if len(value) > 40 else ''}"
    return _dump(value).decode()


def _to_utf8(body: bytes, charset: str) -> bytes:
    try:
        return body.decode(charset).removeprefix("\ufeff").encode()
    except (UnicodeError, LookupError) as error:
        raise RequestError(f"{BUILTIN_ERROR}: not {charset} ({error})") from None
