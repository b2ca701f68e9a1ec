"""Learn vocabularies from a stream of rows.

Tokens are numbered by first occurrence while rows arrive. When all rows are counted, each number gets its token id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from object2vec.array_types import Int32, Int64
from object2vec.ops.text import TextTable
from object2vec.schema.arrays import text_buffers
from object2vec.schema.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa


class TokenNumbering:
    """Numbers tokens. Ids below `first_id` are numbers too; text i of column c of C is first_id + C * i + c."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._tables = [TextTable() for _ in vocabulary.columns]

    def __len__(self) -> int:
        return self.vocabulary.first_id + len(self._tables) * max(map(len, self._tables), default=0)

    def number(self, column: int, texts: pa.LargeStringArray) -> Int32:
        """Return the number of each text of a column, or the two numbers of each if the column is hashed."""
        if self.vocabulary.columns[column].buckets:
            return self.vocabulary.lookup(column, texts.to_pylist()).ravel()
        numbers = self._tables[column].number(*text_buffers(texts))
        return self.vocabulary.first_id + len(self._tables) * numbers + column

    def finish(self, counts: Int64) -> tuple[Vocabulary, Int32]:
        """Return the vocabulary, and the token id of each number.

        `counts` says how often each number occurs, (len(self),).
        """
        texts = [table.texts() for table in self._tables]
        parts = [slice(self.vocabulary.first_id + column, None, len(texts)) for column in range(len(texts))]
        found = [
            {text: count for text, count in zip(column, counts[part].tolist(), strict=False) if count}
            for column, part in zip(texts, parts, strict=True)
        ]
        vocabulary = self.vocabulary.extended(found)
        ids = np.arange(len(self), dtype=np.int32)
        for number, (column, part) in enumerate(zip(texts, parts, strict=True)):
            if column:
                ids[part][: len(column)] = vocabulary.lookup(number, column)[:, 0]
        return vocabulary, ids
