"""Raw values in requests: objects of a schema in JSON, and rows of CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from object2vec.data.records import SIDES, Side
from object2vec.errors import RequestError
from object2vec.schema.schema import Schema
from object2vec.schema.vocabulary import UNKNOWN_ID
from object2vec.serving.instances import InputWarning


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
        for column, unknown in encoded.unknown.items():
            places = np.array(rows, np.int64)[unknown]
            warnings.append(InputWarning(kind="unknown", side=side, rows=places, column=column))
    for number, other in ((0, 1), (1, 0)):
        if not schema.sides[number].columns:
            found[number].update({row: [UNKNOWN_ID] for row in found[other] if row not in found[number]})
    return found, tuple(warnings)


def _namer(rows: Sequence[int], side: Side, name: Callable[[int], str]) -> Callable[[int], str]:
    return lambda number: f"{name(rows[number])}: {side}"


def decode_csv(body: bytes, schema: Schema, first: int = 1) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the rows of CSV as records of raw values, and the number of the line of each.

    The first line may name the columns. Without it, the columns are those of `in0`, then those of `in1`. A side of
    which no column is named is absent.

    Raises:
        RequestError: the body is not CSV, or a row has another number of fields.
    """
    rows, numbers = _read_rows(body, first)
    sides = {side: [column.name for column in schema[side].columns] for side in SIDES}
    names = list(dict.fromkeys([*sides["in0"], *sides["in1"]]))
    label = {schema.label.name} if schema.label else set()
    if rows and set(rows[0]) <= {*names, *label} and set(rows[0]) & set(names):
        names, rows, numbers = rows[0], rows[1:], numbers[1:]
    records: list[dict[str, Any]] = []
    for row, number in zip(rows, numbers, strict=True):
        if len(row) != len(names):
            raise RequestError(f"line {number} has {len(row)} fields, wanted {len(names)}: {', '.join(names)}")
        values = dict(zip(names, row, strict=True))
        records.append({side: _object_of(values, sides[side]) for side in SIDES})
    return records, numbers


def _object_of(values: Mapping[str, str], columns: Sequence[str]) -> dict[str, str] | None:
    """Return the values of a side's columns; None if the row has none of them."""
    return {name: values[name] for name in columns if name in values} or None


def _read_rows(body: bytes, first: int) -> tuple[list[list[str]], list[int]]:
    rows, numbers = [], []
    try:
        reader = csv.reader(io.StringIO(body.decode("utf-8"), newline=""), strict=True)
        for row in reader:
            if row:
                rows.append(row)
                numbers.append(reader.line_num + first - 1)
    except UnicodeDecodeError as error:
        raise RequestError(f"the CSV is not UTF-8 ({error.reason} at byte {error.start})") from None
    except csv.Error as error:
        raise RequestError(f"line {reader.line_num + first - 1}: not CSV ({error})") from None
    return rows, numbers


def unknown_value(warnings: Sequence[InputWarning]) -> tuple[int, Side, str] | None:
    """Return the instance, the side and the column of the first unknown value; None if there is none."""
    found = [(int(warning.rows[0]), warning.side, warning.column) for warning in warnings if warning.kind == "unknown"]
    return min(found, default=None)
