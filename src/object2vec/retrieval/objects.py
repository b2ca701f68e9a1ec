"""The objects of an index: their raw values or token ids, and the other columns of their table.

They are in one Arrow file, which is memory-mapped, so that processes share it. Objects are found by a hash of their
values: the values 42 and "42" are one object, as everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from object2vec.array_types import Bools, Int64
from object2vec.data.records import Side
from object2vec.data.sequences import Sequences
from object2vec.errors import RawValueError, shortened
from object2vec.extras import import_extra
from object2vec.prepare.rows import UInt64, mix
from object2vec.retrieval.array_files import open_array
from object2vec.retrieval.condition import evaluate_condition
from object2vec.schema.arrays import column_codes, row_texts
from object2vec.schema.columns import List, Token
from object2vec.schema.pairs import to_sequences
from object2vec.schema.schema import Schema, require_column

if TYPE_CHECKING:
    import pyarrow as pa

#: The column of token ids, for a model without a schema.
TOKENS: Final = "tokens"
#: Values that an answer has besides the columns of its object. A column with such a name is shown as `object_NAME`.
RESULT_NAMES: Final = ("rank", "score")


class Objects:
    """N objects of a side: a row of `table` for each. Without a schema, the table has the column `tokens`.

    `keys` (N,) are the sorted hashes of the objects, and `key_rows` (N,) the row of each.
    """

    def __init__(self, schema: Schema | None, side: Side, table: pa.RecordBatch, keys: UInt64, key_rows: Int64) -> None:
        self.schema = schema
        self.side: Side = side
        self.table = table
        names = [f"object_{name}" if name in RESULT_NAMES else name for name in table.schema.names]
        self._answers = table.rename_columns(names)
        self._keys = keys
        self._key_rows = key_rows

    @classmethod
    def from_table(cls, schema: Schema | None, side: Side, table: pa.RecordBatch) -> Objects:
        """Return the objects of a table, which has each object once."""
        keys = column_keys(schema, side, dict(zip(table.schema.names, table.columns, strict=True)))
        order = np.argsort(keys, kind="stable")
        return cls(schema, side, table, keys[order], order)

    @classmethod
    def open(cls, schema: Schema | None, side: Side, table: Path, keys: Path) -> Objects:
        """Open the files that `write_table` and `write_keys` wrote, without reading them."""
        pa = import_extra("pyarrow")
        batch = import_extra("pyarrow.ipc").open_file(pa.memory_map(str(table))).get_batch(0)
        stored = open_array(keys)
        return cls(schema, side, batch, stored[0], stored[1].view(np.int64))

    def write_table(self, path: Path) -> None:
        """Write the objects and their columns as an Arrow file."""
        with import_extra("pyarrow.ipc").new_file(str(path), self.table.schema) as file:
            file.write_batch(self.table)

    def write_keys(self, path: Path) -> None:
        """Write the hashes of the objects, and their rows."""
        with path.open("wb") as file:
            np.save(file, np.stack([self._keys, self._key_rows.view(np.uint64)]))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def columns(self) -> list[str]:
        """Return the names of all columns."""
        return list(self.table.schema.names)

    @property
    def key_names(self) -> list[str]:
        """Return the names of the columns that make an object what it is."""
        return self.schema[self.side].names if self.schema else [TOKENS]

    def rows(self, objects: Sequence[Any]) -> Int64:
        """Return the row of each object, (objects,); -1 for one that is not there.

        An object is a raw value, or a list of token ids.
        """
        return self.find(object_keys(self.schema, self.side, objects))

    def find(self, keys: UInt64) -> Int64:
        """Return the row of each object of these hashes; -1 for one that is not there."""
        place = np.minimum(np.searchsorted(self._keys, keys), len(self) - 1)
        return np.where(self._keys[place] == keys, self._key_rows[place], -1)

    def find_columns(self, columns: Mapping[str, Any]) -> Int64:
        """Return the row of each object of a table, which has at least the columns `key_names`."""
        return self.find(column_keys(self.schema, self.side, columns))

    def records(self, rows: Sequence[int] | Int64) -> list[dict[str, Any]]:
        """Return the values of all columns of some rows, by their names in an answer."""
        return self.answers(rows).to_pylist()  # type: ignore[no-any-return]

    def answers(self, rows: Sequence[int] | Int64) -> pa.RecordBatch:
        """Return some rows with the names of the columns in an answer."""
        pa = import_extra("pyarrow")
        return self._answers.take(pa.array(rows, pa.int64()))

    def where(self, condition: str) -> Bools:
        """Return which objects meet a SQL condition on their columns, (N,).

        Raises:
            RawValueError: it is not a condition on these columns.
        """
        return evaluate_condition(self.table, condition)

    def sequences(self, start: int, stop: int) -> Sequences:
        """Return the token ids of the objects from `start` up to, but not including, `stop`."""
        part = self.table.slice(start, stop - start)
        columns = dict(zip(part.schema.names, part.columns, strict=True))
        if self.schema is not None:
            return to_sequences(self.schema.encode_columns(self.side, columns))
        return token_sequences(columns[TOKENS])


def token_sequences(array: pa.Array) -> Sequences:
    """Return the token ids of a column of lists."""
    lengths = array.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    return Sequences.from_lengths(array.flatten().to_numpy(zero_copy_only=False).astype(np.int32), lengths)


def object_keys(schema: Schema | None, side: Side, objects: Sequence[Any]) -> UInt64:
    """Return a hash of each object: raw values, or lists of token ids.

    Raises:
        RawValueError: a value is not of its column's kind.
    """
    if schema is None:
        return sequence_keys(Sequences.from_lists(objects))
    own = schema[side]
    lists = [number for number, value in enumerate(objects) if isinstance(value, list | tuple | np.ndarray)]
    if lists:
        objects = list(objects)
        for number in lists:
            _check_token_ids(objects[number], f"{side}[{number}]", own.vocabulary.size)
        for number, value in zip(lists, schema.decode(side, [objects[n] for n in lists]), strict=True):
            objects[number] = value
    values = own.values_of(objects, lambda row: f"{side}[{row}]")
    parts = []
    for column, given in zip(own.columns, values, strict=True):
        lengths, texts = row_texts(_whole(column), given, partial("{0}[{2}].{1}".format, side, column.name))
        parts.append((lengths, _hashes(texts)))
    return _combined(parts, len(objects))


def _check_token_ids(ids: Sequence[Any], name: str, vocab_size: int) -> None:
    for token in ids:
        if isinstance(token, bool) or not isinstance(token, int | np.integer) or not 0 <= token < vocab_size:
            wanted = f"a token id from 0 to {vocab_size - 1}"
            raise RawValueError(f"{name} has the token {shortened(repr(token))}, wanted {wanted}; a list is token ids")


def column_keys(schema: Schema | None, side: Side, columns: Mapping[str, Any]) -> UInt64:
    """Return a hash of each object of a table; those of equal objects are equal, see `object_keys`.

    Raises:
        RawValueError: a column is missing, or a value is not of its column's kind.
    """
    if schema is None:
        return sequence_keys(token_sequences(require_column(columns, TOKENS)))
    parts = []
    for column in schema[side].columns:
        found = column_codes(_whole(column), require_column(columns, column.name))
        parts.append((found.lengths, _hashes(found.texts.to_pylist())[found.codes]))
    return _combined(parts, len(parts[0][0]))


def _whole(column: Any) -> Token | List:
    """Return a column whose values are compared whole: two texts with the same words are two objects."""
    return column if isinstance(column, List) else Token(column.name)


def _hashes(texts: Sequence[str]) -> UInt64:
    digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.fromiter((int.from_bytes(digest, "little") for digest in digests), np.uint64, len(texts))


def sequence_keys(sequences: Sequences) -> UInt64:
    """Return a hash of each list of token ids."""
    return _combined([(sequences.lengths, sequences.values.astype(np.uint64))], len(sequences))


def _combined(columns: Sequence[tuple[Int64, UInt64]], count: int) -> UInt64:
    """Return a hash of each object from its columns: the number of values of each object, and hashes of all values."""
    keys = np.zeros(count, np.uint64)
    for lengths, hashes in columns:
        ends = np.cumsum(lengths)
        places = np.arange(len(hashes)) - np.repeat(ends - lengths, lengths)
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mix(hashes ^ mix(places.astype(np.uint64))))])
        keys = mix(keys ^ (sums[ends] - sums[ends - lengths]))
    return keys
