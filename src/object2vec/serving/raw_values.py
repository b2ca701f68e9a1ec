"""Raw values in requests: objects of a schema in JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Final, TypeVar

import numpy as np
import orjson

from object2vec.array_types import Int64
from object2vec.data.records import SIDES, Side
from object2vec.data.sequences import Sequences
from object2vec.errors import RawValueError
from object2vec.ops.requests import RequestColumns
from object2vec.schema.pairs import to_sequences
from object2vec.schema.schema import Encoded, Schema
from object2vec.schema.vocabulary import UNKNOWN_ID
from object2vec.serving.instances import Column, InputWarning, Instances, RawRecords

#: Objects in JSON that kernels do not read: how many a process keeps for each side of a model, and the longest one.
MAX_KNOWN_VALUES: Final = 2**14
MAX_KNOWN_BYTES: Final = 128
#: Approximate bytes that they take for a model: 200 each, for two sides.
KNOWN_VALUES_BYTES: Final = 400 * MAX_KNOWN_VALUES

T = TypeVar("T")


def is_utf8(body: bytes) -> bool:
    """Return whether a body is UTF-8."""
    try:
        return body.isascii() or body.decode("utf-8") is not None
    except UnicodeDecodeError:
        return False


def encode_request(
    schema: Schema, request: RequestColumns
) -> tuple[tuple[Column, Column], tuple[InputWarning, ...]] | None:
    """Return both sides of a request that has raw values in JSON, and warnings of unknown values.

    None if a value is not JSON or not of its column's kind, or if a side has raw values and lists.
    """
    columns: list[Column] = []
    warnings: list[InputWarning] = []
    for number, side in enumerate(SIDES):
        rows, raw, own = request.rows[number], request.raw_counts[number], schema[side]
        encoded: Encoded | None = None
        if raw == len(rows) and (raw or not own.columns):
            encoded = encode_side(schema, side, request, _encode_json) if raw else own.encoded([], 0)
            if not own.columns and encoded is not None:  # a text alone is a pair
                others = request.rows[1 - number] if request.raw_counts[1 - number] else rows
                rows = np.union1d(rows, others) if raw else others
                encoded = own.encoded([], len(rows))
        elif not raw and (own.columns or len(rows) == len(request.numbers)):
            encoded = Encoded(request.offsets[number], request.values[number])
        if encoded is None:
            return None
        column, unknown = to_column(side, rows, encoded)
        columns.append(column)
        warnings += unknown
    return (columns[0], columns[1]), tuple(warnings)


def encode_side(
    schema: Schema, side: Side, request: RequestColumns, encode: Callable[[Schema, Side, bytes], Encoded | None]
) -> Encoded | None:
    """Return the token ids of raw values that are all of a side; `encode` returns those that the kernel did not read.

    None if `encode` returns it.
    """
    number, own = SIDES.index(side), schema[side]
    objects, missing = Sequences(request.values[number], request.offsets[number]), request.missing[number]
    if len(missing):
        encoded = encode(schema, side, request.missing_text[number])
        if encoded is None or len(missing) == len(objects):
            return encoded
        order = np.arange(len(objects))
        order[missing] = len(objects) + np.arange(len(missing))
        objects = Sequences.concatenate([objects, to_sequences(encoded)]).take(order)
    elif not request.unknown_counts[number]:
        return Encoded(objects.offsets, objects.values)
    return own.marked(objects)


def _encode_json(schema: Schema, side: Side, text: bytes) -> Encoded | None:
    """Return the token ids of objects in JSON, one a line; None if one is not JSON, or not of its column's kind."""
    values, own = text.split(b"\n")[:-1], schema[side]
    known = own.ids_by_json
    with suppress(KeyError, TypeError):  # an object is new, or has not one token
        ids = np.fromiter(map(known.__getitem__, values), np.int32, len(values))
        return own.marked(Sequences.from_ids(ids))
    lists = list(map(known.get, values))
    missing = list(dict.fromkeys(value for value, ids in zip(values, lists, strict=True) if ids is None))
    found = _encode_new(schema, side, missing) if missing else {}
    if found is None:
        return None
    given = (found[value] if ids is None else ids for value, ids in zip(values, lists, strict=True))
    return own.marked(Sequences.from_lists([ids] if isinstance(ids, int) else ids for ids in given))


def _encode_new(schema: Schema, side: Side, values: Sequence[bytes]) -> dict[bytes, int | list[int]] | None:
    """Return the token ids of objects in JSON, as `_encode_json` does, and keep them."""
    try:
        # Each value has its own brackets and quotes, so a list of them is JSON only if each of them is.
        encoded = schema.encode(side, orjson.loads(b"[%b]" % b",".join(values)))
    except (orjson.JSONDecodeError, RawValueError):
        return None
    lists = (ids[0] if len(ids) == 1 else ids for ids in encoded.to_lists())
    found = dict(zip(values, lists, strict=True))
    short = {value: ids for value, ids in found.items() if len(value) <= MAX_KNOWN_BYTES}
    known = schema[side].ids_by_json
    if len(known) + len(short) > MAX_KNOWN_VALUES:
        known.clear()
    known.update(islice(short.items(), MAX_KNOWN_VALUES))
    return found


def to_column(side: Side, rows: Int64, encoded: Encoded) -> tuple[Column, tuple[InputWarning, ...]]:
    """Return the objects of a side, which are of the instances `rows`, and warnings of unknown values."""
    warnings = (
        InputWarning(kind="unknown", side=side, rows=rows[unknown], column=column)
        for column, unknown in encoded.unknown.items()
    )
    return Column(rows, to_sequences(encoded)), tuple(warnings)


def to_instances(
    encoded: Sequence[Encoded | None], label: str, numbers: Sequence[int] | Int64, raw: RawRecords
) -> Instances:
    """Return instances that all have the same sides: those that are not None."""
    rows = np.arange(len(numbers))
    sides = [
        (Column.from_lists([]), ()) if own is None else to_column(side, rows, own)
        for side, own in zip(SIDES, encoded, strict=True)
    ]
    (left, warnings), (right, others) = sides
    return Instances(columns=(left, right), label=label, numbers=numbers, warnings=(*warnings, *others), raw=raw)


def encode_raw(
    schema: Schema, raw: tuple[Mapping[int, Any], Mapping[int, Any]], name: Callable[[int], str]
) -> tuple[tuple[dict[int, list[int]], dict[int, list[int]]], tuple[InputWarning, ...]]:
    """Return the token ids of raw objects by the number of their instance, and warnings of unknown values.

    A side without columns is added to a raw object of the other side: a text alone is a pair. `name` names an instance.

    Raises:
        RawValueError: a value is not of its column's kind; names the first such instance, the column and the value.
    """
    numbers = sorted({*raw[0], *raw[1]})

    def encode(part: slice) -> list[tuple[list[int], Encoded]]:
        encoded = []
        for side, values in zip(SIDES, raw, strict=True):
            rows = [row for row in numbers[part] if row in values]
            namer = _namer(rows, side, name)
            encoded.append((rows, schema.encode(side, map(values.__getitem__, rows), namer)))
        return encoded

    found: tuple[dict[int, list[int]], dict[int, list[int]]] = ({}, {})
    warnings: list[InputWarning] = []
    for side, ids, (rows, encoded) in zip(SIDES, found, encode_in_order(encode, len(numbers)), strict=True):
        ids.update(zip(rows, encoded.to_lists(), strict=True))
        warnings += to_column(side, np.array(rows, np.int64), encoded)[1]
    for number, other in ((0, 1), (1, 0)):
        if not schema.sides[number].columns:
            found[number].update({row: [UNKNOWN_ID] for row in found[other] if row not in found[number]})
    return found, tuple(warnings)


def _namer(rows: Sequence[int], side: Side, name: Callable[[int], str]) -> Callable[[int], str]:
    return lambda number: f"{name(rows[number])}: {side}"


def encode_in_order(encode: Callable[[slice], T], count: int) -> T:
    """Return what `encode` returns for `count` instances. If it refuses several, its error is that of the first.

    Raises:
        RawValueError: `encode` refuses an instance.
    """
    try:
        return encode(slice(0, count))
    except RawValueError:
        start, stop = 0, count
        while stop - start > 1:
            middle = (start + stop) // 2
            try:
                encode(slice(start, middle))
                start = middle
            except RawValueError:
                stop = middle
        encode(slice(start, stop))
        raise


def unknown_value(warnings: Sequence[InputWarning]) -> tuple[int, Side, str] | None:
    """Return the instance, the side and the column of the first unknown value; None if there is none."""
    found = [(int(warning.rows[0]), warning.side, warning.column) for warning in warnings if warning.kind == "unknown"]
    return min(found, default=None)
