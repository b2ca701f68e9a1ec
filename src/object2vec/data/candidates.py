"""The objects of `in1` that a ranking loss compares in a batch."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Float32, Int32, Int64

#: Rows that are counted at a time, to limit temporary memory.
COUNTED_ROWS: Final = 2**18


class Candidates(NamedTuple):
    """The candidates of a batch after its own M objects of in1: first those of all its pairs, then those of some in0.

    `log_q` has for each of the first M + D the logarithm of the probability that a batch has it, and 0 for the others.
    Object `negatives[0][q]` of in0 has the negative `negatives[1][q]`, a number among all candidates.
    """

    drawn: Int64  # (D,) objects
    given: Int64  # (G,) objects
    log_q: Float32  # (M + D + G,)
    negatives: tuple[Int64, Int64]  # (Q,) each


class CandidateSampler:
    """Gives each batch its candidates: its own objects of `in1`, and `sampled` ones drawn uniformly from all objects.

    `objects` (N,) are the objects of `in1` of all pairs, from 0 to `count` - 1. A positive pair, of `labels` (N,) from
    1, is followed by its given negatives, which are candidates of its `in0` only. A batch has `batch_size` positives.
    `log_q` (V,) has the logarithm of the probability that an object is a candidate of a batch.
    """

    def __init__(self, objects: Int32, labels: Float32, count: int, *, batch_size: int, sampled: int) -> None:
        self.objects = objects
        #: The rows of positives, if other rows are given negatives.
        self.positives: Int64 | None = np.flatnonzero(labels >= 1) if (labels < 1).any() else None
        counts, pairs = np.zeros(count, np.int64), len(objects if self.positives is None else self.positives)
        for start in range(0, len(objects), COUNTED_ROWS):
            part = slice(start, start + COUNTED_ROWS)
            np.add.at(counts, objects[part][labels[part] >= 1], 1)
        self.sampled = sampled if count > 1 else 0
        with np.errstate(divide="ignore"):  # an object of all pairs, or of none
            log_absent = batch_size * np.log1p(-counts / max(1, pairs))
            log_absent += self.sampled * np.log1p(-1 / max(2, count))
            self.log_q: Float32 = np.log(-np.expm1(log_absent)).astype(np.float32)
        self._is_shared: npt.NDArray[np.bool_] = np.zeros(count, np.bool_)

    def draw(self, own: Int32 | Int64, rows: Int64 | None, index0: Int64, generator: np.random.Generator) -> Candidates:
        """Return the candidates of a batch with the objects `own` (M,) of in1.

        Its pairs have the objects `index0` (P,) of in0 and, with given negatives, are the `rows` (P,).
        """
        drawn = np.unique(generator.integers(len(self._is_shared), size=self.sampled))
        self._is_shared[own] = True
        drawn = drawn[~self._is_shared[drawn]]
        self._is_shared[drawn] = True
        left = given = negatives = drawn[:0]
        if rows is not None and self.positives is not None:
            row, lengths = self._given_negatives(rows)
            objects = self.objects[row].astype(np.int64)
            own_only = ~self._is_shared[objects]  # others are candidates of all
            pairs = np.unique(np.stack([np.repeat(index0, lengths)[own_only], objects[own_only]]), axis=1)
            given, negatives = np.unique(pairs[1], return_inverse=True)
            left = np.ascontiguousarray(pairs[0])
        shared = np.concatenate([own, drawn])
        self._is_shared[shared] = False
        log_q = np.concatenate([self.log_q[shared], np.zeros(len(given), np.float32)])
        return Candidates(drawn, given, log_q, (left, len(shared) + negatives))

    def _given_negatives(self, rows: Int64) -> tuple[Int64, Int64]:
        """Return the rows of the negatives of positives at `rows`, one after the other, and their numbers."""
        if self.positives is None:
            return rows[:0], np.zeros(len(rows), np.int64)
        ends = np.append(self.positives[1:], len(self.objects))[np.searchsorted(self.positives, rows)]
        lengths = ends - rows - 1
        starts = np.repeat(rows + 1 - (np.cumsum(lengths) - lengths), lengths)
        return starts + np.arange(len(starts)), lengths
