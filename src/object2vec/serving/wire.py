"""Requests and replies as bytes: which formats there are, what a body says, how predictions are written.

Pure functions over bytes and header values. Nothing here knows Flask, a model or a file. Two formats, each for
requests and for replies:

    application/json        {"instances": [{"in0": [1, 2], "in1": [3]}]}    {"predictions":[{"scores":[0.25,0.75]}]}
    application/jsonlines   {"in0": [1, 2], "in1": [3]}                     {"scores":[0.25,0.75]}

A float32 is written with the fewest digits that read back as the same float32.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from object2vec.errors import NotAcceptableError, RequestError, UnsupportedMediaTypeError
from object2vec.serving.instances import SIDES, Instances, Prediction, Side

JSON: Final = "application/json"
JSON_LINES: Final = "application/jsonlines"
TYPES: Final = (JSON, JSON_LINES)

LONGEST: Final = 5000  # of infer_max_seqlens, as of max_seq_len
# What the built-in says to a body without `instances`; clients look for it.
REFUSED: Final = "unable to evaluate payload provided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A Content-Type header."""

    type: str = JSON
    charset: str = "utf-8"
    #: Tokens to keep of in0 and of in1, in place of the model's own max_seq_len.
    max_seq_lens: tuple[int, int] | None = None


def to_content(header: str | None) -> Content:
    """Read a Content-Type; without one the body is JSON.

    Raises:
        UnsupportedMediaTypeError: another type, or a charset that does not exist.
        RequestError: `infer_max_seqlens` is not two lengths.
    """
    if not header:
        return Content()
    kind, parameters = _parameters(header)
    if kind not in TYPES:
        raise UnsupportedMediaTypeError(f"Content-Type {kind!r} is not supported, wanted {' or '.join(TYPES)}")
    lengths = parameters.get("infer_max_seqlens")
    return Content(
        type=kind,
        charset=_charset(parameters.get("charset", "utf-8")),
        max_seq_lens=None if lengths is None else _max_seq_lens(lengths),
    )


def to_reply_type(accept: str | None, default: str) -> str:
    """The type to answer in: what `accept` likes best, and `default` where it does not care.

    Raises:
        NotAcceptableError: it takes neither type.
    """
    if accept is None or not accept.strip():
        return default
    ranges = [_parameters(part) for part in accept.split(",") if part.strip()]
    qualities = {kind: _quality(kind, ranges) for kind in (default, *TYPES)}
    best = max(qualities, key=lambda kind: qualities[kind])  # the first of equals, so `default` before others
    if not qualities[best]:
        raise NotAcceptableError(f"Accept {accept!r} allows no reply that can be sent, wanted {' or '.join(TYPES)}")
    return best


def decode(body: bytes, content: Content) -> Instances:
    """Read a request body.

    Raises:
        RequestError: the body, or an instance in it, is not what its type says.
    """
    if content.charset != "utf-8":
        body = _to_utf8(body, content.charset)
    return decode_lines(body.split(b"\n")) if content.type == JSON_LINES else _decode_json(body)


def decode_lines(lines: Iterable[bytes], first: int = 1) -> Instances:
    """Read lines of JSON Lines; `first` is the number of the first one. Blank lines are none.

    Raises:
        RequestError: a line is no instance.
    """
    numbers, records = [], []
    for number, line in enumerate(lines, start=first):
        if line.strip():
            numbers.append(number)
            records.append(_parse(line, f"line {number}: "))
    return _to_instances(records, "line {}", numbers)


def encode(predictions: Sequence[Prediction], kind: str) -> bytes:
    """Write predictions as a body of a type."""
    if kind == JSON_LINES:
        return b"\n".join(map(_dump, predictions))
    return _dump({"predictions": predictions})


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
    in0, in1 = ([record.get(side) for record in records] for side in SIDES)
    return Instances(in0=in0, in1=in1, label=label, numbers=numbers)


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


def _parameters(header: str) -> tuple[str, dict[str, str]]:
    """`type; name=value; …` in its parts. A value may hold a comma, as that of infer_max_seqlens does."""
    kind, *rest = header.split(";")
    pairs = (part.partition("=") for part in rest)
    return kind.strip().lower(), {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _charset(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except (LookupError, ValueError):
        raise UnsupportedMediaTypeError(f"charset {name!r} is not known, wanted utf-8") from None


def _to_utf8(body: bytes, charset: str) -> bytes:
    try:
        return body.decode(charset).encode()
    except (UnicodeError, LookupError) as error:
        raise RequestError(f"{REFUSED}: not {charset} ({error})") from None


def _max_seq_lens(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d{1,4})\s*,\s*(\d{1,4})\s*", text)
    lengths = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(1 <= length <= LONGEST for length in lengths):
        raise RequestError(f"infer_max_seqlens is {text!r}, wanted two integers from 1 to {LONGEST}, like 100,50")
    return lengths


def _quality(kind: str, ranges: Sequence[tuple[str, dict[str, str]]]) -> float:
    """How much an Accept header wants a type: the q of the range that names it most closely (RFC 9110, 12.5.1)."""
    for wanted in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        for name, parameters in ranges:
            if name == wanted:
                return _q(parameters.get("q", "1"))
    return 0.0


def _q(text: str) -> float:
    """A quality from 0 to 1; what is no number is 0, so that it is never preferred."""
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0
