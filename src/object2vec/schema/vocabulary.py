"""The vocabulary of a side: which value of which column has which token id.

| ids | meaning |
|---|---|
| 0 | padding |
| 1 | unknown |
| next, one per column | an unknown value of that column |
| next, `buckets` per hashed column | hashed values; each value has two of them |
| the rest | known values, the most frequent first; ties in the order of the values |

A vocabulary file has a line for each known value: `column=value`, a tab, and how often it occurs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import repeat
from pathlib import Path
from typing import Final

import numpy as np

from object2vec.array_types import Int32, Int64
from object2vec.errors import ArtifactError
from object2vec.schema.columns import MAX_VOCABULARY, Column, Text

UNKNOWN_ID: Final = 1
#: The id of the first column's unknown values.
FIRST_COLUMN_ID: Final = 2
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_UNESCAPES: Final = {escaped: chr(char) for char, escaped in _ESCAPES.items()}


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Token ids of the values of `columns`.

    `values[i]`, a value of column `column_of[i]`, has the id `first_id + i` and occurs `counts[i]` times.
    """

    columns: tuple[Column, ...]
    values: Sequence[str]
    column_of: Int32
    counts: Int64

    @classmethod
    def empty(cls, columns: Sequence[Column]) -> Vocabulary:
        """Return a vocabulary without values."""
        return cls(columns=tuple(columns), values=[], column_of=np.empty(0, np.int32), counts=np.empty(0, np.int64))

    def extended(self, counts: Sequence[Mapping[str, int]]) -> Vocabulary:
        """Return a vocabulary with the new ones of these values appended; known values keep their ids."""
        new: list[tuple[int, str, int]] = []
        for column, (spec, found) in enumerate(zip(self.columns, counts, strict=True)):
            if not spec.buckets:
                frequent = [
                    (-count, value, column)
                    for value, count in found.items()
                    if count >= spec.min_count and value not in self.ids[column]
                ]
                new += sorted(frequent)[: spec.max_vocabulary] if isinstance(spec, Text) else frequent
        new = sorted(new)[: max(0, MAX_VOCABULARY - self.size)]
        return Vocabulary(
            columns=self.columns,
            values=[*self.values, *(value for _, value, _ in new)],
            column_of=np.concatenate([self.column_of, np.array([column for _, _, column in new], np.int32)]),
            counts=np.concatenate([self.counts, np.array([-count for count, _, _ in new], np.int64)]),
        )

    @cached_property
    def ids(self) -> list[dict[str, int]]:
        """Return the ids of the known values of each column."""
        ids: list[dict[str, int]] = [{} for _ in self.columns]
        for token, (column, value) in enumerate(zip(self.column_of.tolist(), self.values, strict=True), self.first_id):
            ids[column][value] = token
        return ids

    @property
    def first_id(self) -> int:
        """Return the id of the first known value."""
        return FIRST_COLUMN_ID + len(self.columns) + sum(column.buckets or 0 for column in self.columns)

    @property
    def size(self) -> int:
        return self.first_id + len(self.values)

    def unknown_id(self, column: int) -> int:
        """Return the id of unknown values of a column."""
        return FIRST_COLUMN_ID + column

    def lookup(self, column: int, values: Sequence[str]) -> Int32:
        """Return the ids of values of a column: (values, 1), or (values, 2) if the column is hashed."""
        if self.columns[column].buckets:
            first, buckets = self._buckets(column)
            hashed = [first + part % buckets for value in values for part in _hash(value)]
            return np.array(hashed, np.int32).reshape(len(values), 2)
        found = map(self.ids[column].get, values, repeat(self.unknown_id(column)))
        return np.fromiter(found, np.int32, len(values))[:, None]

    def _buckets(self, column: int) -> tuple[int, int]:
        """Return the first id and the number of buckets of a column."""
        before = sum(each.buckets or 0 for each in self.columns[:column])
        return FIRST_COLUMN_ID + len(self.columns) + before, self.columns[column].buckets or 0

    def token(self, token: int) -> tuple[int, str | None] | None:
        """Return the column and the value of an id.

        The value is None if it is unknown or hashed. The result is None if the id belongs to no column.
        """
        if token >= self.first_id:
            return int(self.column_of[token - self.first_id]), self.values[token - self.first_id]
        if token - FIRST_COLUMN_ID in range(len(self.columns)):
            return token - FIRST_COLUMN_ID, None
        for column in range(len(self.columns)):
            first, buckets = self._buckets(column)
            if first <= token < first + buckets:
                return column, None
        return None

    def write(self, path: Path) -> None:
        """Write a line for each known value."""
        names = [_escaped(column.name) for column in self.columns]
        lines = zip(self.column_of.tolist(), self.values, self.counts.tolist(), strict=True)
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{names[column]}={_escaped(value)}\t{count}\n" for column, value, count in lines)

    @classmethod
    def read(cls, path: Path, columns: Sequence[Column]) -> Vocabulary:
        """Read a vocabulary file.

        Raises:
            ArtifactError: the file cannot be read, or a line is not a value of these columns; names the line.
        """
        names = {_escaped(column.name): number for number, column in enumerate(columns)}
        values, column_of, counts = [], [], []
        try:
            with path.open(encoding="utf-8", newline="\n") as file:
                lines = file.read().removesuffix("\n").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{path}: {getattr(error, 'strerror', None) or error}, {_WANTED}") from error
        for line, text in enumerate(lines if lines != [""] else [], start=1):
            token, _, count = text.rpartition("\t")
            name, equals, value = token.partition("=")
            if not equals or name not in names or not value or not count.isascii() or not count.isdecimal():
                raise ArtifactError(f"{path}, line {line}: got {text[:60]!r}, {_WANTED} of {', '.join(names)}")
            values.append(re.sub(r"\\[\\tnr]", lambda m: _UNESCAPES[m[0]], value) if "\\" in value else value)
            column_of.append(names[name])
            counts.append(min(int(count[:18]), 2**62))
        read = cls(
            columns=tuple(columns),
            values=values,
            column_of=np.array(column_of, np.int32),
            counts=np.array(counts, np.int64),
        )
        if sum(map(len, read.ids)) < len(values):
            raise ArtifactError(f"{path}: a value is there twice, {_WANTED} once each")
        return read


_WANTED: Final = "wanted column=value, a tab and a count"


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)


@lru_cache(maxsize=2**16)
def _hash(value: str) -> tuple[int, int]:
    """Return two hashes of a value, the same on all machines."""
    digest = int.from_bytes(hashlib.blake2b(value.encode(), digest_size=16).digest(), "little")
    return digest >> 64, digest & (2**64 - 1)
