"""Rows of CSV as instances with raw values."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from object2vec.array_types import Int64
from object2vec.data.records import SIDES, Side
from object2vec.errors import RawValueError, RequestError
from object2vec.ops import requests as requests_ops
from object2vec.ops.requests import MAX_COLUMNS, NO_SIDE
from object2vec.schema.schema import Encoded, Schema
from object2vec.serving.instances import Instances
from object2vec.serving.raw_values import encode_in_order, encode_side, is_utf8, to_instances


def decode_csv(body: bytes, schema: Schema, first: int = 1) -> Instances:
    """Return the rows of CSV; `first` is the number of the first line.

    The first line may name the columns. Without it, the columns are those of `in0`, then those of `in1`. A side of
    which no column is named is absent.

    Raises:
        RequestError: the body is not CSV, or a row has another number of fields.
        RawValueError: a value is not of its column's kind.
    """
    names, rows, numbers = _read_rows(body, schema, first)
    lengths = list(map(len, rows))
    count = next((row for row, length in enumerate(lengths) if length != len(names)), len(rows))

    def encode(part: slice) -> list[Encoded | None]:
        columns = _by_name(names, rows[:count][part])
        return [_encode(schema, side, columns, numbers[part]) for side in SIDES]

    encoded = encode_in_order(encode, count)
    if count < len(rows):
        hint = "; a first line may name fewer" if numbers[0] == first else ""  # there is none
        wanted = f"{len(names)}: {', '.join(names)}{hint}"
        raise RequestError(f"line {numbers[count]} has {lengths[count]} fields, wanted {wanted}")
    return to_instances(encoded, "line {}", numbers, partial(_records, schema, names, rows))


def _by_name(names: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, Sequence[str]]:
    return dict(zip(names, zip(*rows, strict=True), strict=False))


def _encode(schema: Schema, side: Side, columns: Mapping[str, Sequence[str]], numbers: Sequence[int]) -> Encoded | None:
    """Return the objects of a side; None if none of its columns is there."""
    names = schema[side].names
    if names and not columns.keys() & set(names):
        return None
    values = [columns.get(name, [None] * len(numbers)) for name in names]
    return schema.encode_values(side, values, len(numbers), lambda row: f"line {numbers[row]}: {side}")


def _read_rows(body: bytes, schema: Schema, first: int) -> tuple[list[str], list[list[str]], Sequence[int]]:
    """Return the names of the columns, the rows of CSV that are not blank, and the number of the last line of each."""
    try:
        text = body.decode("utf-8")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = list(reader)
    except UnicodeDecodeError as error:
        raise RequestError(f"the CSV is not UTF-8 ({error.reason} at byte {error.start})") from None
    except csv.Error as error:
        raise RequestError(f"line {reader.line_num + first - 1}: not CSV ({error})") from None
    if reader.line_num == len(rows) and all(rows):  # each row is a line
        numbers: Sequence[int] = range(first, first + len(rows))
    else:
        reader = csv.reader(io.StringIO(text, newline=""))
        numbers = [reader.line_num + first - 1 for row in reader if row]
        rows = list(filter(None, rows))
    if rows and _is_header(schema, rows[0]):
        return rows[0], rows[1:], numbers[1:]
    return _default_names(schema), rows, numbers


def _default_names(schema: Schema) -> list[str]:
    return list(dict.fromkeys([*schema["in0"].names, *schema["in1"].names]))


def _is_header(schema: Schema, row: Sequence[str]) -> bool:
    """Return whether a first row names columns: one of a side at least, and perhaps label and weight."""
    names = {*schema["in0"].names, *schema["in1"].names}
    others = {schema.label.name if schema.label else None, schema.weight}
    return not names.isdisjoint(row) and names | others >= set(row)


def _records(schema: Schema, names: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[int, dict[str, Any]]:
    """Return the rows as instances of JSON; a side of which no column is named is None."""
    places = {side: [(name, names.index(name)) for name in schema[side].names if name in names] for side in SIDES}
    return {
        number: {side: {name: row[place] for name, place in places[side]} or None for side in SIDES}
        for number, row in enumerate(rows)
    }


# ----------------------------------------------------------------------------------------------------------------------
# The same by a kernel.
# ----------------------------------------------------------------------------------------------------------------------


def decode_plain_csv(body: bytes, schema: Schema, first: int = 1) -> Instances | None:
    """Return what `decode_csv` does, without an object made of each field; None for unusual CSV."""
    end = body.find(b"\n") + 1 or len(body)
    line = body[:end].removesuffix(b"\n").removesuffix(b"\r")
    if schema.tables is None or b"\r" in line or not is_utf8(body):
        return None
    try:
        first_row = next(csv.reader([line.decode()], strict=True), [])
    except csv.Error:
        return None
    names, start = (first_row, end) if _is_header(schema, first_row) else (_default_names(schema), 0)
    if not first_row or len(set(names)) < len(names):
        return None
    places = _places(*(tuple(schema[side].names) for side in SIDES), tuple(names))
    found = requests_ops.read_csv(body[start:], first + (start > 0), len(names), places, schema.tables)
    if found is None:
        return None
    encoded: list[Encoded | None] = [None, None]
    for number, side in enumerate(SIDES):
        own = schema[side]
        if not own.columns:
            encoded[number] = own.encoded([], len(found.numbers))
        elif places[number, 0] != NO_SIDE:
            encoded[number] = encode_side(schema, side, found, partial(_encode_text, names=names))
            if encoded[number] is None:
                return None
    return to_instances(
        encoded, "line {}", found.numbers, lambda: _records(schema, *_read_rows(body, schema, first)[:2])
    )


@lru_cache
def _places(in0: tuple[str, ...], in1: tuple[str, ...], names: tuple[str, ...]) -> Int64:
    """Return the field of each column of both sides, as `read_csv` takes them; the rows have fields of these names."""
    places = np.full((2, MAX_COLUMNS), -1)
    numbers = {name: number for number, name in enumerate(names)}
    for own, columns in zip(places, (in0, in1), strict=True):
        own[: len(columns)] = [numbers.get(name, -1) for name in columns]
        if numbers.keys().isdisjoint(columns):
            own[0] = NO_SIDE
    return places


def _encode_text(schema: Schema, side: Side, text: bytes, names: Sequence[str]) -> Encoded | None:
    """Return the token ids of objects in CSV that have the columns of `names`; None for a value of another kind."""
    own = [name for name in schema[side].names if name in names]
    rows = list(csv.reader(io.StringIO(text.decode(), newline=""), strict=True))
    try:
        return _encode(schema, side, _by_name(own, rows), range(len(rows)))
    except RawValueError:
        return None
