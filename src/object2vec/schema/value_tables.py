"""The vocabularies of a schema in the form in which kernels read raw values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from object2vec.array_types import Int32
from object2vec.ops.requests import ValueColumn, ValueTables, can_read_raw_values
from object2vec.ops.text import TextTable
from object2vec.schema.columns import Column, List, Text
from object2vec.schema.text import piece_words
from object2vec.schema.vocabulary import Vocabulary

_Known = tuple[TextTable, Int32]


def value_tables(sides: Sequence[tuple[Sequence[Column], Vocabulary]]) -> ValueTables | None:
    """Return the tables of both sides, None without kernels or if a side has too many columns."""
    if not can_read_raw_values([len(columns) for columns, _ in sides]):
        return None
    tables: dict[tuple[int, int, bool], _Known] = {}  # tied sides have one vocabulary
    found = []
    for columns, vocabulary in sides:
        own = []
        for number, column in enumerate(columns):
            is_text = isinstance(column, Text)
            key = id(vocabulary), number, is_text
            if column.buckets or (isinstance(column, Text) and column.tokenizer):
                own.append(ValueColumn(column.name, "other", vocabulary.unknown_id(number)))
                continue
            if key not in tables:
                tables[key] = _known(vocabulary, number, is_text=is_text)
            separator = (column.separator or "") if isinstance(column, List) else ""
            own.append(ValueColumn(column.name, column.kind, vocabulary.unknown_id(number), *tables[key], separator))
        found.append(own)
    return ValueTables(found)


def _known(vocabulary: Vocabulary, column: int, *, is_text: bool) -> _Known:
    """Return the values of a column, and their ids. Of a text only words that remain the same when they are split."""
    places = np.flatnonzero(vocabulary.column_of == column)
    values = [vocabulary.values[place] for place in places.tolist()]
    if is_text:
        final = [value.isascii() or piece_words(value) == (value,) for value in values]
        places, values = places[final], [value for value, kept in zip(values, final, strict=True) if kept]
    return TextTable.from_texts(values), (places + vocabulary.first_id).astype(np.int32)
