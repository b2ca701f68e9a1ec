"""Scores of pairs of queries and vectors: cosines, inner products, or products with a term of the squared norm.

Shapes: N vectors, D dimensions, Q queries, P pairs.
"""

from __future__ import annotations

from ctypes import byref
from typing import Final, Literal

import numpy as np

from object2vec.array_types import Float32, Int64
from object2vec.ops.arguments import check_range, check_shapes, pointer
from object2vec.ops.library import Parameter, available, functions, structs

Metric = Literal["cosine", "dot", "dot_and_square"]
#: Their positions are their numbers in csrc/search.c.
METRICS: Final[tuple[Metric, ...]] = ("cosine", "dot", "dot_and_square")
#: The norm that vectors of zeros are divided by.
TINY: Final = 1e-30


class ScoredVectors:
    """N vectors (N, D), which can be memory-mapped, with their norms (N,).

    With the metric `cosine`, queries have length 1. With `dot_and_square`, they are (Q, D + 1): the last number is the
    factor of a vector's squared norm.
    """

    def __init__(self, rows: Float32, norms: Float32, metric: Metric) -> None:
        check_shapes("ScoredVectors", norms=(norms, rows.shape[:1]))
        places = [pointer(array, Parameter("ScoredVectors", "array", "float32")) for array in (rows, norms)]
        self.rows, self.norms, self.metric = rows, norms, metric
        self.struct = structs()["Vectors"](*places, rows.shape[1], METRICS.index(metric))

    def check(self, queries: Float32) -> None:
        """Raise ValueError unless queries (Q, D) fit."""
        wanted = self.rows.shape[1] + (self.metric == "dot_and_square")
        check_shapes("ScoredVectors", queries=(queries, (len(queries), wanted)))

    def score(self, queries: Float32, left: Int64, right: Int64) -> Float32:
        """Return the scores (P,) of queries left[p] with vectors right[p]. None depends on other pairs."""
        self.check(queries)
        check_shapes("score_rows", right=(right, left.shape))
        if not available():
            return self._score_numpy(queries, left, right)
        out = np.empty(len(left), np.float32)
        places = (
            pointer(queries, Parameter("score_rows", "queries", "float32")),
            queries.shape[1],
            check_range("score_rows", "left", left, len(queries)),
            check_range("score_rows", "right", right, len(self.rows)),
        )
        functions()["score_rows"](byref(self.struct), *places, len(left), out.ctypes.data)
        return out

    def _score_numpy(self, queries: Float32, left: Int64, right: Int64) -> Float32:
        dim, norms = self.rows.shape[1], self.norms[right]
        products: Float32 = (queries[left, :dim] * self.rows[right]).sum(axis=1)
        if self.metric == "cosine":
            products /= np.maximum(norms, np.float32(TINY))
        elif self.metric == "dot_and_square":
            products += queries[left, dim] * np.square(norms)
        return products
