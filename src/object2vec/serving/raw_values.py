"""Raw values in requests: objects of a schema in JSON, and rows of CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any, Final

import numpy as np
import orjson

from object2vec.array_types import Int64
from object2vec.data.records import SIDES, Side
from object2vec.data.sequences import Sequences
from object2vec.errors import RawValueError, RequestError
from object2vec.ops.jsonl import RequestColumns
from object2vec.schema.pairs import to_sequences
from object2vec.schema.schema import Encoded, Schema
from object2vec.schema.vocabulary import UNKNOWN_ID
from object2vec.serving.instances import Column, InputWarning, Instances, RawRecords

#: Objects in JSON whose token ids a process keeps for each side of a model, and the longest one.
MAX_KNOWN_VALUES: Final = 2**14
MAX_KNOWN_BYTES: Final = 128
#: Approximate bytes that they take for a model: 200 each, for two sides.
KNOWN_VALUES_BYTES: Final = 400 * MAX_KNOWN_VALUES


def encode_request(
    schema: Schema, request: RequestColumns
) -> tuple[tuple[Column, Column], tuple[InputWarning, ...]] | None:
    """Return both sides of a request that has raw values in JSON, and warnings of unknown values.

    None if a value is not JSON or not of its column's kind, or if a side has raw values and lists.
    """
    columns: list[Column] = []
    warnings: list[InputWarning] = []
    for number, side in enumerate(SIDES):
        rows, raw, own = request.rows[number], request.raw[number].split(b"\n")[:-1], schema[side]
        if not own.columns and len(raw) == len(rows):  # a text alone is a pair
            if raw and not _encode_json(schema, side, raw):
                return None
            others = request.rows[1 - number] if request.raw[1 - number] else rows
            rows = np.union1d(rows, others)
            encoded = own.encoded([], len(rows))
        elif not raw and (own.columns or len(rows) == len(request.numbers)):
            encoded = Encoded(request.offsets[number], request.values[number])
        elif len(raw) == len(rows) and (found := _encode_json(schema, side, raw)):
            encoded = found
        else:
            return None
        column, unknown = to_column(side, rows, encoded)
        columns.append(column)
        warnings += unknown
    return (columns[0], columns[1]), tuple(warnings)


def _encode_json(schema: Schema, side: Side, values: Sequence[bytes]) -> Encoded | None:
    """Return the token ids of objects in JSON; None if one is not JSON, or not of its column's kind."""
    own = schema[side]
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
    """Return instances that all have the same sides. A side that is None is absent."""
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
        RawValueError: a value is not of its column's kind; names the instance, the column and the value.
    """
    found: tuple[dict[int, list[int]], dict[int, list[int]]] = ({}, {})
    warnings: list[InputWarning] = []
    for side, values, ids in zip(SIDES, raw, found, strict=True):
        if not values:
            continue
        rows = list(values)
        encoded = schema.encode(side, values.values(), _namer(rows, side, name))
        ids.update(zip(rows, encoded.to_lists(), strict=True))
        warnings += to_column(side, np.array(rows, np.int64), encoded)[1]
    for number, other in ((0, 1), (1, 0)):
        if not schema.sides[number].columns:
            found[number].update({row: [UNKNOWN_ID] for row in found[other] if row not in found[number]})
    return found, tuple(warnings)


def _namer(rows: Sequence[int], side: Side, name: Callable[[int], str]) -> Callable[[int], str]:
    return lambda number: f"{name(rows[number])}: {side}"


def decode_csv(body: bytes, schema: Schema, first: int = 1) -> Instances:
    """Return the rows of CSV; `first` is the number of the first line.

    The first line may name the columns. Without it, the columns are those of `in0`, then those of `in1`. A side of
    which no column is named is absent.

    Raises:
        RequestError: the body is not CSV, or a row has another number of fields.
        RawValueError: a value is not of its column's kind.
    """
    rows, numbers = _read_rows(body, first)
    names = list(dict.fromkeys([*schema["in0"].names, *schema["in1"].names]))
    label = {schema.label.name} if schema.label else set()
    if rows and set(rows[0]) <= {*names, *label} and set(rows[0]) & set(names):
        names, rows, numbers = rows[0], rows[1:], numbers[1:]
    if set(map(len, rows)) - {len(names)}:
        fields, number = next((len(row), n) for row, n in zip(rows, numbers, strict=True) if len(row) != len(names))
        raise RequestError(f"line {number} has {fields} fields, wanted {len(names)}: {', '.join(names)}")
    columns = dict(zip(names, zip(*rows, strict=True), strict=False))
    encoded = [_encode_csv(schema, side, columns, numbers) for side in SIDES]
    return to_instances(encoded, "line {}", numbers, partial(_csv_records, schema, columns, len(rows)))


def _encode_csv(
    schema: Schema, side: Side, columns: Mapping[str, Sequence[str]], numbers: Sequence[int]
) -> Encoded | None:
    """Return the objects of a side; None if none of its columns is there."""
    names = schema[side].names
    if names and not columns.keys() & set(names):
        return None
    values = [columns.get(name, [None] * len(numbers)) for name in names]
    return schema.encode_values(side, values, len(numbers), lambda row: f"line {numbers[row]}: {side}")


def _csv_records(schema: Schema, columns: Mapping[str, Sequence[str]], count: int) -> dict[int, dict[str, Any]]:
    """Return the rows as instances of JSON; a side of which no column is named is None."""
    names = {side: [name for name in schema[side].names if name in columns] for side in SIDES}
    return {
        row: {side: {name: columns[name][row] for name in names[side]} or None for side in SIDES}
        for row in range(count)
    }


def _read_rows(body: bytes, first: int) -> tuple[list[list[str]], Sequence[int]]:
    """Return the rows of CSV that are not blank, and the number of the last line of each."""
    try:
        text = body.decode("utf-8")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = list(reader)
    except UnicodeDecodeError as error:
        raise RequestError(f"the CSV is not UTF-8 ({error.reason} at byte {error.start})") from None
    except csv.Error as error:
        raise RequestError(f"line {reader.line_num + first - 1}: not CSV ({error})") from None
    if reader.line_num == len(rows) and all(rows):  # each row is a line
        return rows, range(first, first + len(rows))
    reader = csv.reader(io.StringIO(text, newline=""))
    numbers = [reader.line_num + first - 1 for row in reader if row]
    return list(filter(None, rows)), numbers


def unknown_value(warnings: Sequence[InputWarning]) -> tuple[int, Side, str] | None:
    """Return the instance, the side and the column of the first unknown value; None if there is none."""
    found = [(int(warning.rows[0]), warning.side, warning.column) for warning in warnings if warning.kind == "unknown"]
    return min(found, default=None)
