"""Bodies as bytes: what a request says, how answers are written.

Pure functions over bytes. Nothing here knows HTTP, a model or a file. Two formats, each for requests and for replies:

    application/json        {"instances": [{"in0": [1, 2], "in1": [3]}]}    {"predictions":[{"scores":[0.25,0.75]}]}
    application/jsonlines   {"in0": [1, 2], "in1": [3]}                     {"scores":[0.25,0.75]}
    application/x-npy       (replies alone)                                 the numbers as one array of numpy's

A float32 is written with the fewest digits that read back as the same float32.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import orjson

from object2vec import kernels
from object2vec.data.sequences import Sequences
from object2vec.errors import RequestError
from object2vec.serving.instances import SIDES, Answers, Column, Instances, Side
from object2vec.serving.negotiation import JSON, JSON_LINES, NPY, Content

#: What a body of answers begins with, has between them, and ends with.
FRAMES: Final = {JSON: (b'{"predictions":[', b",", b"]}"), JSON_LINES: (b"", b"\n", b"")}
ONE_ARRAY: Final = f"{NPY} is one array, wanted instances that are all pairs or all of the same side"
# What the built-in says to a body without `instances`; clients look for it.
REFUSED: Final = "unable to evaluate payload provided"


def decode(body: bytes, content: Content, first: int = 1) -> Instances:
    """Read a request body; `first` is the number of its first line.

    Raises:
        RequestError: the body, or an instance in it, is not what its type says.
    """
    plain = decode_plain(body, content, first)
    return decode_any(body, content, first) if plain is None else plain


def decode_plain(body: bytes, content: Content, first: int = 1) -> Instances | None:
    """Read a body in the form that nearly all have, without an object made of each token; None if it is another."""
    if content.charset != "utf-8":
        return None
    document = content.type == JSON
    found = kernels.read_instances(body, document=document) if kernels.available() else None
    if found is None:
        return None
    left, right = map(Column, found.rows, map(Sequences, found.values, found.offsets))
    if document:
        return Instances(columns=(left, right), label="instances[{}]", numbers=range(len(found.numbers)))
    return Instances(columns=(left, right), label="line {}", numbers=found.numbers + (first - 1))


def decode_any(body: bytes, content: Content, first: int = 1) -> Instances:
    """Read a body in any form, as `decode` does."""
    if content.charset != "utf-8":
        body = _to_utf8(body, content.charset)
    if content.type == JSON:
        return _decode_json(body)
    numbers, records = [], []
    for number, line in enumerate(body.split(b"\n"), start=first):
        if line.strip():
            numbers.append(number)
            records.append(_parse(line, f"line {number}: "))
    return _to_instances(records, "line {}", numbers)


def encode(answers: Iterable[Answers], kind: str) -> bytes:
    """Write answers as a body of a type.

    Raises:
        RequestError: it is to be one array, and the answers are of several kinds.
    """
    if kind == NPY:
        answers = list(answers)
        return b"".join(encode_array(answers, sum(part.count for part in answers)))
    return b"".join(encode_parts(answers, kind))


def encode_parts(answers: Iterable[Answers], kind: str) -> Iterator[bytes]:
    """Write answers as JSON or JSON Lines in parts, none of them empty, each when it is asked for."""
    before, between, end = FRAMES[kind]
    for part in answers:
        if part.count:
            yield before + _join(between, part)
            before = between
    if end:
        yield end if before is between else before + end


def encode_array(answers: Iterable[Answers], count: int) -> Iterator[bytes]:
    """Write the vectors of `count` answers as numpy does, float32 (count, D), in parts, each when it is asked for.

    Raises:
        RequestError: answers are of several kinds.
    """
    first: tuple[str, int] | None = None
    for part in answers:
        key, vectors = part.alike or ("", np.empty((0, 0), np.float32))
        kind = key, vectors.shape[1]
        if not key or kind != (first or kind):
            raise RequestError(ONE_ARRAY)
        yield vectors.tobytes() if first else _array_header((count, kind[1])) + vectors.tobytes()
        first = kind
    if first is None:
        yield _array_header((0, 0))


def _array_header(shape: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


def _join(between: bytes, answers: Answers) -> bytes:
    """The answers as JSON objects with `between` between them."""
    alike = answers.alike
    if alike is None:
        return between.join(map(_dump, answers))
    key, vectors = alike  # written all together: [[1,2],[3,4]] without its outer brackets, and keys put in
    start, end = b'{"%s":' % key.encode(), b"}"
    return start + _dump(vectors)[1:-1].replace(b"],[", b"]" + end + between + start + b"[") + end


def _dump(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _parse(text: bytes, where: str = "") -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"{where}{REFUSED}: not JSON ({error.msg} at character {error.pos + 1})") from None


def _decode_json(body: bytes) -> Instances:
    document = _parse(body)
    if not isinstance(document, dict) or "instances" not in document:
        raise RequestError(f'{REFUSED}: no instances, wanted an object like {{"instances": [{{"in0": [1, 2]}}]}}')
    records = document["instances"]
    if not isinstance(records, list):
        raise RequestError(f"{REFUSED}: instances is {_kind(records)}, wanted a list")
    return _to_instances(records, "instances[{}]", range(len(records)))


def _to_instances(records: list[Any], label: str, numbers: Sequence[int]) -> Instances:
    for number, record in zip(numbers, records, strict=True):
        if not isinstance(record, dict):
            raise RequestError(f"{label.format(number)} is {_kind(record)}, wanted an object with in0, in1 or both")
        if not record.keys() & SIDES:
            raise RequestError(f"{label.format(number)} has neither in0 nor in1")
        for side in SIDES:
            if not _is_side(record, side):
                raise RequestError(f"{label.format(number)}: {_fault(side, record[side])}")
    left, right = (Column.of([record.get(side) for record in records]) for side in SIDES)
    return Instances(columns=(left, right), label=label, numbers=numbers)


def _is_side(record: dict[str, Any], side: Side) -> bool:
    """Whether a side is absent or a list of integers; `bool` is no integer here."""
    if side not in record:
        return True
    tokens = record[side]
    return isinstance(tokens, list) and set(map(type, tokens)) <= {int}


def _fault(side: Side, tokens: Any) -> str:
    if not isinstance(tokens, list):
        return f"{side} is {_kind(tokens)}, wanted a list of integer token ids"
    position, token = next((i, token) for i, token in enumerate(tokens) if type(token) is not int)
    return f"{side}[{position}] is {_kind(token)}, wanted an integer token id"


def _kind(value: Any) -> str:
    """A JSON value in a few words. Lists and objects are only named: they can be deep, or as long as a body."""
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, str):
        return f"the string {_dump(value[:40]).decode()}{'…' if len(value) > 40 else ''}"
    return _dump(value).decode()


def _to_utf8(body: bytes, charset: str) -> bytes:
    try:
        return body.decode(charset).encode()
    except (UnicodeError, LookupError) as error:
        raise RequestError(f"{REFUSED}: not {charset} ({error})") from None
