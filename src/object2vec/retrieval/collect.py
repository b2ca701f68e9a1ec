"""Collect the objects of a side, each once: from a table, a channel, rows, or the vocabulary of the model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from object2vec.data.files import local_path
from object2vec.data.jsonlines import read_channel
from object2vec.data.records import SIDES, Side
from object2vec.data.sequences import Sequences
from object2vec.errors import RawValueError, UserError, located
from object2vec.extras import import_extra
from object2vec.hyperparameters import Hyperparameters
from object2vec.prepare.source import Limits, Source, open_columns, open_files
from object2vec.retrieval.objects import TOKENS, Objects, column_keys
from object2vec.schema.columns import Token
from object2vec.schema.pairs import to_sequences
from object2vec.schema.schema import Schema, require_column
from object2vec.schema.tables import to_columns

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

#: Text of numbers that become numbers, so that a condition can compare them. 007 stays text.
NUMBER: Final = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?"
DATE: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"


def collect_objects(
    data: Any, schema: Schema | None, hyperparameters: Hyperparameters, side: Side | None
) -> list[Objects]:
    """Return the objects of a side, or of each side that the data has.

    `data` is a table or its path. For a model without a schema, it is a channel, or a list of lists of token ids. None
    takes the values of the vocabulary, which is possible for a side with one column of single values.

    Raises:
        UserError: there are no objects, or the data cannot be read.
    """
    if schema is None:
        found = _from_token_ids(data, hyperparameters, side)
    elif data is None:
        found = _from_vocabularies(schema, side)
    else:
        is_path = isinstance(data, str | Path)
        limits = Limits.of_machine()
        source = open_files([str(data)], limits) if is_path else open_columns(to_columns(data), limits)
        with located(source.name):
            found = [_from_source(source, schema, each) for each in _sides_of(source.columns, schema, side)]
    for objects in found:
        if not len(objects):
            raise UserError(f"there are no objects of {objects.side}, wanted at least one")
    return found


def _sides_of(names: Sequence[str], schema: Schema, side: Side | None) -> list[Side]:
    """Return the sides whose columns a table has."""
    if side:
        for name in schema[side].names:
            require_column(dict.fromkeys(names), name)
        if not schema[side].names:
            raise UserError(f"{side} has no columns in this model, wanted the other side")
        return [side]
    found: list[Side] = [each for each in SIDES if schema[each].names and set(schema[each].names) <= set(names)]
    if not found:
        wanted = " or ".join(", ".join(schema[each].names) for each in SIDES if schema[each].names)
        raise RawValueError(f"the table has the columns {', '.join(names)}, wanted {wanted}")
    return found


def _from_source(source: Source, schema: Schema, side: Side) -> Objects:
    """Return the objects of a table. Columns with one value for each object are kept."""
    keys = schema[side].names
    table = source.unique(keys)
    columns = {name: _typed(column, lossless=name in keys) for name, column in table.items()}
    encoded = schema.encode_columns(side, columns)
    hashes = column_keys(schema, side, columns)
    first = np.sort(np.unique(hashes, return_index=True)[1])  # of equal values that are written differently
    batch = import_extra("pyarrow").RecordBatch.from_pydict(columns)
    kept = first[schema[side].knows(to_sequences(encoded))[first]]
    if len(kept) < len(first):  # they would all have the score of the unknown id
        left_out = f"{len(first) - len(kept):,} of {len(first):,} {side} are left out"
        logger.warning(f"{left_out}: the model knows none of their values")
    return Objects.from_table(schema, side, batch if len(kept) == len(batch) else batch.take(kept))


def _typed(column: pa.Array, *, lossless: bool) -> pa.Array:
    """Return a column of text as numbers or dates if all its values are; `lossless` keeps every text as it is."""
    pa, pc = import_extra("pyarrow"), import_extra("pyarrow.compute")
    if pa.types.is_null(column.type):
        return column.cast(pa.large_string())
    if pa.types.is_floating(column.type):
        return _whole_numbers(column)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    text = column.cast(pa.large_string())
    filled = pc.if_else(pc.equal(text, ""), None, text)
    given = filled.drop_null()
    for pattern, type_, exact in (
        (NUMBER, pa.int64(), True),
        (NUMBER, pa.float64(), False),
        (DATE, pa.date32(), False),
        (DATE + ".*", pa.timestamp("us"), False),
    ):
        if len(given) and (exact or not lossless) and pc.all(pc.match_substring_regex(given, f"^({pattern})$")).as_py():
            try:
                found = filled.cast(type_)
            except pa.ArrowInvalid:
                continue
            if not exact or found.cast(pa.large_string()).equals(filled):
                return _whole_numbers(found)
    return text


def _whole_numbers(column: pa.Array) -> pa.Array:
    """Return a column of floating-point numbers as integers if all are whole: 1995.0 is 1995."""
    pa = import_extra("pyarrow")
    try:
        return column.cast(pa.int64())  # an error if it loses something
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return column


def _from_vocabularies(schema: Schema, side: Side | None) -> list[Objects]:
    pa = import_extra("pyarrow")
    found = []
    for each in SIDES if side is None else [side]:
        columns, vocabulary = schema[each].columns, schema[each].vocabulary
        if len(columns) == 1 and isinstance(columns[0], Token) and not columns[0].buckets:
            values = pa.array(vocabulary.values, pa.large_string())
            batch = pa.RecordBatch.from_pydict({columns[0].name: _typed(values, lossless=True)})
            found.append(Objects.from_table(schema, each, batch))
    if not found:
        what = " and ".join(f"{each} ({', '.join(schema[each].names)})" for each in SIDES if schema[each].names)
        raise UserError(f"{what}: the model has no list of these objects; name a table of them")
    return found


def _from_token_ids(data: Any, hyperparameters: Hyperparameters, side: Side | None) -> list[Objects]:
    """Return the token ids of a channel, or given ones, the most frequent first."""
    if data is None:
        raise UserError("the model has no list of its objects; name a channel of pairs")
    if isinstance(data, str | Path):
        pairs = read_channel("objects", local_path(data, streamed=True), hyperparameters)
        given = dict(zip(SIDES, pairs.sides, strict=True))
    elif side is None:
        raise UserError("lists of token ids are objects of one side, wanted side='in0' or side='in1'")
    else:
        given = {side: token_lists(data)}
    return [_from_sequences(sequences, each) for each, sequences in given.items() if side in (None, each)]


def token_lists(data: Any) -> Sequences:
    """Return lists of token ids as sequences.

    Raises:
        UserError: a value is not a list of token ids.
    """
    try:
        return Sequences.from_lists([[int(token) for token in tokens] for tokens in data])
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"objects are not lists of token ids ({error}), wanted for example [[3], [5, 8]]") from error


def _from_sequences(sequences: Sequences, side: Side) -> Objects:
    pa = import_extra("pyarrow")
    first, inverse = sequences.unique()
    order = np.argsort(-np.bincount(inverse, minlength=len(first)), kind="stable")
    unique = sequences.take(first[order])
    kept = unique.take(np.flatnonzero(unique.lengths))
    lists = pa.LargeListArray.from_arrays(pa.array(kept.offsets), pa.array(kept.values))
    return Objects.from_table(None, side, pa.RecordBatch.from_pydict({TOKENS: lists}))
