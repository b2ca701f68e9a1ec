"""Learn vocabularies from a stream of rows.

Tokens are numbered by first occurrence while rows arrive. When all rows are counted, each number gets its token id.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import count

import numpy as np

from object2vec.array_types import Int32, Int64
from object2vec.schema.arrays import Codes
from object2vec.schema.vocabulary import Vocabulary


class TokenNumbering:
    """Numbers the tokens of a vocabulary. Known ones keep their ids; new ones follow in the order of their arrival."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        following = count(vocabulary.size)
        self._numbers = [defaultdict(following.__next__, known) for known in vocabulary.ids]

    def __len__(self) -> int:
        return self.vocabulary.first_id + sum(map(len, self._numbers))

    def number(self, column: int, found: Codes) -> tuple[Int64, Int32]:
        """Return the number of tokens of each row, and the numbers of all tokens."""
        if self.vocabulary.columns[column].buckets:
            ids = self.vocabulary.lookup(column, found.texts)
            return 2 * found.lengths, ids[found.codes].ravel()
        numbers = np.fromiter(map(self._numbers[column].__getitem__, found.texts), np.int32, len(found.texts))
        return found.lengths, numbers[found.codes]

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
                ids[list(numbers.values())] = vocabulary.lookup(column, list(numbers))[:, 0]
        return vocabulary, ids
