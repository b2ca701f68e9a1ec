"""Pairs of token ids from a table with the columns of a schema."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from object2vec.array_types import Float32, Int64
from object2vec.data.records import SIDES, Side
from object2vec.data.sequences import Pairs, Sequences
from object2vec.errors import RawValueError
from object2vec.schema.label import Label, weight_values
from object2vec.schema.schema import Encoded, Schema, require_column
from object2vec.schema.values import describe


def encode_pairs(schema: Schema, columns: Mapping[str, Any]) -> tuple[Pairs, Counter[str]]:
    """Return a pair for each row and label, or for a set each row; and how many rows lack a label or a side.

    Without a label column, all pairs are positives. Without the schema's column of weights, pairs have none.

    Raises:
        RawValueError: a column is missing, or a value is not of its column's kind.
    """
    first, second = (to_sequences(schema.encode_columns(side, columns)) for side in SIDES)
    rows, labels, classes = np.arange(len(first)), np.ones(len(first), np.float32), None
    skipped: Counter[str] = Counter()
    if schema.label:
        rows, labels = _encode_labels(schema.label, columns)
        if schema.label.is_set:
            classes = Sequences.from_lengths(labels.astype(np.int32), np.bincount(rows, minlength=len(first)))
            rows = np.unique(rows)
            labels = classes.lengths[rows].astype(np.float32)
        skipped["label"] = len(first) - len(np.unique(rows))
    is_whole, weights = np.ones(len(first), np.bool_), None
    if schema.weight is not None and schema.weight in getattr(columns, "column_names", columns):
        weights = weight_values(schema.weight, columns[schema.weight])
        is_whole &= ~np.isnan(weights)
        skipped["weight"] = int(np.count_nonzero(np.isnan(weights)))
    for name, side in zip(SIDES, (first, second), strict=True):
        skipped[name] = int(np.count_nonzero(side.lengths == 0))
        is_whole &= side.lengths > 0
    rows, labels = rows[is_whole[rows]], labels[is_whole[rows]]
    if not np.array_equal(rows, np.arange(len(first))):
        first, second = first.take(rows), second.take(rows)
    classes = None if classes is None else classes.take(rows)
    return Pairs(first, second, labels, None if weights is None else weights[rows], classes), skipped


def to_sequences(encoded: Encoded) -> Sequences:
    """Return the objects as sequences."""
    return Sequences(encoded.ids, encoded.offsets)


def _encode_labels(label: Label, columns: Mapping[str, Any]) -> tuple[Int64, Float32]:
    """Return the row and the number of each label."""
    found = label.codes(require_column(columns, label.name))
    numbers = np.array(label.numbers(found.texts.to_pylist()), np.float32)
    return np.repeat(np.arange(len(found.lengths)), found.lengths), numbers[found.codes]


def encode_objects(schema: Schema, side: Side, objects: Iterable[Any]) -> tuple[list[Sequence[int]], Encoded]:
    """Return the token ids of objects, each a list of token ids or a raw value, and those of the raw values.

    Raises:
        RawValueError: see `Schema.encode`.
    """
    if isinstance(objects, str | bytes) or not isinstance(objects, Iterable):
        raise RawValueError(f"{side} is {describe(objects)}, wanted a list of objects, or a table")
    lists = [list(value) if isinstance(value, list | tuple | np.ndarray) else value for value in objects]
    raw = [number for number, value in enumerate(lists) if not isinstance(value, list)]
    encoded = schema.encode(side, [lists[number] for number in raw])
    for number, ids in zip(raw, encoded.to_lists(), strict=True):
        lists[number] = ids
    return lists, encoded
