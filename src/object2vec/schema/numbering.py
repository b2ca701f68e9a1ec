"""Learn vocabularies from a stream of rows.

Tokens are numbered by first occurrence while rows arrive. When all rows are counted, each number gets its token id.
"""

from __future__ import annotations

import numpy as np

from object2vec.array_types import Int32, Int64
from object2vec.schema.arrays import Codes
from object2vec.schema.vocabulary import Vocabulary


class TokenNumbering:
    """Numbers the tokens of a vocabulary. Known ones keep their ids; new ones follow in the order of their arrival."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._numbers = [dict(known) for known in vocabulary.ids]
        self._next = vocabulary.size

    def __len__(self) -> int:
        return self._next

    def number(self, column: int, found: Codes) -> tuple[Int64, Int32]:
        """Return the number of tokens of each row, and the numbers of all tokens."""
        if self.vocabulary.columns[column].buckets:
            ids = self.vocabulary.lookup_array(column, found.texts)
            return 2 * found.lengths, ids[found.codes].ravel()
        numbers = self._numbers[column]
        for text in found.texts:
            if text not in numbers:
                numbers[text] = self._next
                self._next += 1
        own = np.fromiter(map(numbers.__getitem__, found.texts), np.int32, len(found.texts))
        return found.lengths, own[found.codes]

    def finish(self, counts: Int64) -> tuple[Vocabulary, Int32]:
        """Return the vocabulary, and the token id of each number.

        `counts` says how often each number occurs, (len(self),).
        """
        found = [
            {text: int(counts[number]) for text, number in numbers.items() if counts[number]}
            for numbers in self._numbers
        ]
        vocabulary = self.vocabulary.extended(found)
        ids = np.arange(len(self), dtype=np.int32)
        for column, numbers in enumerate(self._numbers):
            if numbers:
                ids[list(numbers.values())] = vocabulary.lookup(column, numbers)
        return vocabulary, ids
