"""Negative pairs: the `in0` of a positive pair beside the `in1` of another row, never a pair known to be positive."""

from __future__ import annotations

import numpy as np

from object2vec.arrays import Float32, Int64

#: How often a draw that hit a known positive is drawn again before the positive is given up as having no negative.
ROUNDS = 64


class NegativeSampler:
    """Draws `rate` negatives for each positive row (label at least 1); new ones at every call.

    `objects` says for each row which object its `in0` and its `in1` are, (N,) each: rows that hold the same tokens
    hold the same object, and whether a pair is known to be positive is a question of objects.
    """

    def __init__(self, objects: tuple[Int64, Int64], labels: Float32, rate: int) -> None:
        self.rate = rate
        self.positives = np.flatnonzero(labels >= 1)
        self._object0, self._object1 = objects
        self._objects1 = int(self._object1.max()) + 1
        self._known = np.unique(self._key(self.positives, self.positives))

    def _key(self, row0: Int64, row1: Int64) -> Int64:
        """A pair of objects as one number: `in0` of row0 with `in1` of row1."""
        return self._object0[row0] * self._objects1 + self._object1[row1]

    def _positive(self, row0: Int64, row1: Int64) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        key = self._key(row0, row1)
        at = np.minimum(np.searchsorted(self._known, key), len(self._known) - 1)
        return self._known[at] == key  # type: ignore[no-any-return]

    def draw(self, generator: np.random.Generator) -> tuple[Int64, Int64]:
        """The negatives of one pass, as the rows that give `in0` and `in1`.

        A positive whose `in0` is positive with all that was drawn for it has fewer than `rate`.
        """
        rows = len(self._object1)
        row0 = np.repeat(self.positives, self.rate)
        row1 = generator.integers(rows, size=len(row0))
        again = np.flatnonzero(self._positive(row0, row1)) if len(row0) else row0
        for _ in range(ROUNDS):
            if not len(again):
                break
            row1[again] = generator.integers(rows, size=len(again))
            again = again[self._positive(row0[again], row1[again])]
        return np.delete(row0, again), np.delete(row1, again)
