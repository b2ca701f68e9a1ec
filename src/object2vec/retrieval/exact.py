"""Exact search: products of all queries with all vectors, and the k highest of each query.

Shapes: N vectors, D dimensions, Q queries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from object2vec.array_types import Bools, Float32, Int64


def top_k(
    vectors: Float32,
    queries: Float32,
    k: int,
    *,
    cosine: bool,
    allowed: Bools | None = None,
    excluded: Sequence[Int64] | None = None,
) -> tuple[Int64, Float32]:
    """Return the rows (Q, k) of the vectors with the highest scores, and the scores; see `VectorIndex.search`."""
    if cosine:
        vectors, queries = (
            each / np.maximum(np.linalg.norm(each, axis=1), 1e-30)[:, None] for each in (vectors, queries)
        )
    scores = (queries @ vectors.T).astype(np.float32)
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    for query, rows in enumerate(excluded or ()):
        scores[query, rows] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int64)
    found = np.full((len(queries), k), -1, np.int64)
    best = np.full((len(queries), k), -np.inf, np.float32)
    best[:, : order.shape[1]] = np.take_along_axis(scores, order, 1)
    found[:, : order.shape[1]] = order
    found[best == -np.inf] = -1
    return found, best
