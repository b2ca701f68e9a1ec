"""Exact search: products of all queries with all vectors, and the k highest scores of each query.

Shapes: N vectors, D dimensions, Q queries, P pairs of a query and a vector.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from object2vec.array_types import Bools, Float32, Int64
from object2vec.ops.vectors import TINY, Metric, ScoredVectors

#: Vectors and queries of one product. Its scores stay in a core's cache or close to it.
BLOCK_ROWS: Final = 2**15
BLOCK_QUERIES: Final = 64
#: Scores of which the highest is found first. Only groups with a high one are looked into.
GROUP: Final = 64
#: The share of |query| × |vector| by which a product can differ from a score, by the order of its sum.
ROUNDING: Final = 1e-5


class Vectors:
    """N vectors (N, D), which can be memory-mapped, with their norms (N,).

    `scored` has the scores of pairs.
    """

    def __init__(self, array: Float32, metric: Metric, *, norms: Float32 | None = None) -> None:
        self.array = array
        self.metric: Metric = metric
        self.tensor = as_tensor(array)
        self.norms = norms_of(self.tensor) if norms is None else as_tensor(norms)
        self.dim = array.shape[1]
        self.scored = ScoredVectors(self.tensor.numpy(), self.norms.numpy(), metric)

    def __len__(self) -> int:
        return len(self.array)

    def prepare(self, queries: Float32) -> Float32:
        """Return queries (Q, D), of length 1 if scores are cosines."""
        given = np.array(queries, np.float32, order="C")
        if self.metric == "cosine":
            given /= np.maximum(np.sqrt(np.square(given).sum(axis=1, keepdims=True)), np.float32(TINY))
        return given

    def lengths(self, rows: slice | Tensor) -> Tensor:
        """Return the norms of what queries are multiplied with: unit vectors, vectors, or vectors with their square."""
        norms = self.norms[rows]
        if self.metric == "cosine":
            return torch.ones_like(norms)
        return norms * (1 + norms.square()).sqrt() if self.metric == "dot_and_square" else norms


def norms_of(vectors: Tensor) -> Tensor:
    """Return the norms (N,) of vectors."""
    blocks = [vectors[at : at + BLOCK_ROWS].norm(dim=1) for at in range(0, len(vectors), BLOCK_ROWS)]
    return torch.cat(blocks) if blocks else torch.empty(0)


def as_tensor(array: Float32) -> Tensor:
    """Return a tensor of the same memory, also if the array is read-only, which torch warns of."""
    array = np.ascontiguousarray(array, np.float32)
    if not array.size:
        return torch.empty(array.shape)
    memory = (ctypes.c_char * array.nbytes).from_address(array.ctypes.data)
    memory.array = array  # type: ignore[attr-defined]  # as long as the tensor
    return torch.frombuffer(memory, dtype=torch.float32).view(array.shape)


@torch.inference_mode()
def search_all(
    vectors: Vectors,
    queries: Float32,
    k: int,
    *,
    allowed: Bools | None = None,
    excluded: Sequence[Int64] | None = None,
) -> tuple[Int64, Float32]:
    """Return the rows (Q, k) with the highest scores of prepared queries (Q, D), and the scores.

    See `VectorIndex.search`.
    """
    found, tensor = [], torch.from_numpy(queries)
    for start in range(0, len(vectors), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        forbidden = None if allowed is None else torch.from_numpy(~allowed[rows])
        for first in range(0, len(queries), BLOCK_QUERIES):
            part = slice(first, first + BLOCK_QUERIES)
            scores = _products(vectors, tensor[part], rows, forbidden)
            for number, hidden in enumerate((excluded or ())[part]):
                own = hidden[(hidden >= start) & (hidden < start + BLOCK_ROWS)] - start
                scores[number, torch.from_numpy(own)] = -torch.inf
            left, right = _candidates(scores, k, margin=_margin(vectors, tensor[part], rows))
            found.append((left + first, right + start))
    left, right = (np.concatenate(each) for each in zip(*found, strict=True)) if found else (np.empty(0, np.int64),) * 2
    return best_pairs(left, right, vectors.scored.score(queries, left, right), len(queries), k)


def search_subset(
    vectors: Vectors, queries: Float32, k: int, rows: Int64, excluded: Sequence[Int64] | None = None
) -> tuple[Int64, Float32]:
    """Return the same as `search_all` among some rows, ascending, which are copied."""
    part = Vectors(vectors.array[rows], vectors.metric)
    hidden = None if excluded is None else [np.flatnonzero(np.isin(rows, each)) for each in excluded]
    found, scores = search_all(part, queries, k, excluded=hidden)
    return np.where(found >= 0, rows[found] if len(rows) else -1, -1), scores


def highest(scores: Float32, k: int) -> tuple[Int64, Int64]:
    """Return the indices (query, place) of the k highest scores of each query, (Q, n), and of those equal to the last.

    -inf is no score.
    """
    if not scores.size:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    least = torch.from_numpy(scores).topk(min(k, scores.shape[1]), dim=1, sorted=False).values.amin(1, keepdim=True)
    query, place = np.nonzero((scores >= least.numpy()) & (scores > -np.inf))
    return query.astype(np.int64), place.astype(np.int64)


def best_pairs(left: Int64, right: Int64, scores: Float32, queries: int, k: int) -> tuple[Int64, Float32]:
    """Return the k rows (Q, k) of each query with the highest scores among pairs (query, row), equal scores by row.

    Where there are fewer, the row is -1 and the score -inf.
    """
    order = np.lexsort((right, -scores, left))
    left, right, scores = left[order], right[order], scores[order]
    places = np.arange(len(left)) - np.searchsorted(left, left)
    kept = places < k
    rows, best = np.full((queries, k), -1, np.int64), np.full((queries, k), -np.inf, np.float32)
    rows[left[kept], places[kept]], best[left[kept], places[kept]] = right[kept], scores[kept]
    return rows, best


def _products(vectors: Vectors, queries: Tensor, rows: slice, forbidden: Tensor | None) -> Tensor:
    """Return the scores (Q, R) of queries with R rows, up to rounding, padded with -inf to whole groups."""
    part = vectors.tensor[rows]
    count = len(part)
    padded = torch.empty(len(queries), -(-count // GROUP) * GROUP)
    padded[:, count:] = -torch.inf
    scores = padded[:, :count]
    torch.mm(queries[:, : vectors.dim], part.T, out=scores)
    if vectors.metric == "cosine":
        scores /= vectors.norms[rows].clamp(min=TINY)
    elif vectors.metric == "dot_and_square":
        scores.addr_(queries[:, vectors.dim], vectors.norms[rows].square())
    if forbidden is not None:
        scores.masked_fill_(forbidden, -torch.inf)
    return padded


def _candidates(scores: Tensor, k: int, margin: Tensor) -> tuple[Int64, Int64]:
    """Return pairs (query, row) with all that can be among the k highest of a query, (Q, R). `margin` (Q, 1)."""
    groups = scores.view(len(scores), -1, GROUP)
    highest = groups.amax(dim=2)
    # The k-th highest maximum is at most the k-th highest score.
    found = highest if highest.shape[1] >= k else scores
    least = found.topk(min(k, found.shape[1]), dim=1).values[:, -1:] - margin
    query, group = torch.nonzero(highest >= least, as_tuple=True)
    inside = groups[query, group]
    hit, place = torch.nonzero((inside >= least[query]) & (inside > -torch.inf), as_tuple=True)
    return query[hit].numpy(), (group[hit] * GROUP + place).numpy()


def _margin(vectors: Vectors, queries: Tensor, rows: slice) -> Tensor:
    """Return by how much a product of these rows can differ from its score, (Q, 1)."""
    longest = float(vectors.lengths(rows).max())
    norms: Tensor = queries.norm(dim=1, keepdim=True)
    return norms * (longest * ROUNDING)
