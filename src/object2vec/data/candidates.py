"""The objects of `in1` that a ranking loss compares in a batch."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Float32, Int32, Int64

#: Rows that are counted at a time, to limit temporary memory.
COUNTED_ROWS: Final = 2**18


class CandidateSampler:
    """Gives each batch its candidates: its own objects of `in1`, and `sampled` ones drawn uniformly from V objects.

    `objects` (N,) are the objects of `in1` of all pairs, and a batch has `batch_size` pairs. `log_q` (V,) has the
    logarithm of the probability that an object is a candidate of a batch.
    """

    def __init__(self, objects: Int32, *, batch_size: int, sampled: int) -> None:
        counts = np.zeros(int(objects.max(initial=-1)) + 1, np.int64)
        for start in range(0, len(objects), COUNTED_ROWS):
            np.add.at(counts, objects[start : start + COUNTED_ROWS], 1)
        self.sampled = sampled if len(counts) > 1 else 0
        with np.errstate(divide="ignore"):  # an object of all pairs
            log_absent = batch_size * np.log1p(-counts / max(1, len(objects)))
            log_absent += self.sampled * np.log1p(-1 / max(2, len(counts)))
            self.log_q: Float32 = np.log(-np.expm1(log_absent)).astype(np.float32)
        self._is_own: npt.NDArray[np.bool_] = np.zeros(len(counts), np.bool_)

    def draw(self, own: Int32 | Int64, generator: np.random.Generator) -> Int64:
        """Return objects for a batch that are not among its `own`."""
        drawn = np.unique(generator.integers(len(self._is_own), size=self.sampled))
        self._is_own[own] = True
        new = drawn[~self._is_own[drawn]]
        self._is_own[own] = False
        return new
