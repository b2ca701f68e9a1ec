"""Approximate search among vectors that are kept as codes of 7 bits, in lists.

Shapes: n queries; B blocks of `BLOCK_ROWS` rows; K quads, of 4 dimensions each; N vectors, L lists, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import byref
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from object2vec.array_types import Bools, Float32, Int32, Int64
from object2vec.ops.arguments import check_shapes
from object2vec.ops.library import available, functions, structs
from object2vec.ops.vectors import TINY, ScoredVectors

#: As in csrc/api.h. A list has whole blocks.
BLOCK_ROWS: Final = 32
#: Rows of `centroids` that follow those of the lists.
EXTRA_ROWS: Final = 2
MAX_CODE: Final = 127
QUERY_CODE: Final = 127
ROOM_ALIGNMENT: Final = 64

Codes = npt.NDArray[np.uint8]


class CodeLists:
    """Vectors in lists: list l has the blocks starts[l]:starts[l + 1].

    `codes` are (B, K, BLOCK_ROWS, 4), and `rows` (B, BLOCK_ROWS) the numbers of the vectors, -1 for none. `centroids`
    (L + 2, D) has two rows more: the difference of code 0 from the centroid, and of one step.
    """

    def __init__(self, codes: Codes, rows: Int32, starts: Int64, centroids: Float32, vectors: int) -> None:
        """Check the arrays, which can be memory-mapped.

        Raises:
            ValueError: they do not fit, or name other rows than those of `vectors`.
        """
        blocks = len(codes)
        check_shapes("CodeLists", codes=(codes, (*codes.shape[:2], BLOCK_ROWS, 4)), rows=(rows, (blocks, BLOCK_ROWS)))
        dtypes = (codes, np.uint8), (rows, np.int32), (starts, np.int64), (centroids, np.float32)
        for array, dtype in dtypes:
            if array.dtype != dtype or not array.flags.c_contiguous:
                raise ValueError(f"CodeLists: {array.dtype}, wanted {np.dtype(dtype)}, contiguous")
        if starts.ndim != 1 or starts[0] != 0 or starts[-1] != blocks or np.any(np.diff(starts) < 0):
            raise ValueError(f"CodeLists: starts must ascend from 0 to {blocks}")
        if blocks and (rows.min() < -1 or rows.max() >= vectors):
            raise ValueError(f"CodeLists: rows must be from -1 to {vectors - 1}")
        quads = codes.shape[1]
        if centroids.ndim != 2 or len(centroids) != len(starts) - 1 + EXTRA_ROWS:
            raise ValueError(f"CodeLists: centroids have shape {centroids.shape}, for {len(starts) - 1} lists")
        if quads != -(-centroids.shape[1] // 4):
            raise ValueError(f"CodeLists: {quads} quads for {centroids.shape[1]} dimensions")
        self.codes, self.rows, self.starts, self.centroids, self.vectors = codes, rows, starts, centroids, vectors
        places = [int(array.ctypes.data) for array, _ in dtypes]
        self.struct = structs()["Lists"](*places, len(self), quads, centroids.shape[1])

    def __len__(self) -> int:
        return len(self.starts) - 1


def search_lists(
    lists: CodeLists,
    vectors: ScoredVectors,
    queries: Float32,
    count: int,
    *,
    candidates: int,
    probed: Int64,
    allowed: Bools | None = None,
    excluded: Sequence[Int64] | None = None,
) -> tuple[Int64, Float32]:
    """Return the `count` rows (n, count) with the highest scores, and the scores; the best first, equal scores by row.

    Where fewer are found, the row is -1 and the score -inf. The result for a query does not depend on other queries.

    Args:
        lists: the codes of the vectors.
        vectors: the vectors themselves.
        queries: the queries (n, D), or fewer dimensions than the lists have, which are 0.
        count: how many to find.
        candidates: how many rows with the highest products of codes are scored.
        probed: how many lists each query probes, (n,).
        allowed: the rows that may be found, (N,); all if None.
        excluded: rows that are not to be found, for each query.
    """
    n, starts = len(queries), np.zeros(len(queries) + 1, np.int64)
    vectors.check(queries)
    if excluded is not None:
        np.cumsum([len(rows) for rows in excluded], out=starts[1:])
    given = np.concatenate([*excluded]) if starts[-1] and excluded else np.empty(0)
    mask, shape = probed if allowed is None else allowed, (lists.vectors, vectors.rows.shape[1])
    mask_length = n if allowed is None else lists.vectors
    check_shapes("search_lists", probed=(probed, (n,)), allowed=(mask, (mask_length,)), vectors=(vectors.rows, shape))
    if queries.shape[1] > lists.centroids.shape[1] or count > candidates:
        raise ValueError(f"search_lists: {queries.shape[1]} dimensions, {count} of {candidates} candidates")
    scores, rows = np.full((n, count), -np.inf, np.float32), np.full((n, count), -1, np.int64)
    if not (n and count and len(lists)):
        return rows, scores
    arrays: tuple[Any, ...] = (
        np.ascontiguousarray(queries, np.float32),
        np.minimum(np.maximum(probed, 1), len(lists)),
        *(starts, np.ascontiguousarray(given, np.int64)),
        None if allowed is None else np.ascontiguousarray(allowed, np.uint8),
    )
    if not available():
        for query in range(n):
            _search_numpy(lists, vectors, query, candidates, arrays, rows, scores)
        return rows, scores
    _search_kernel(lists, vectors, candidates, arrays, rows, scores)
    return rows, scores


def _search_kernel(
    lists: CodeLists,
    vectors: ScoredVectors,
    candidates: int,
    arrays: tuple[Any, ...],
    rows: Int64,
    scores: Float32,
) -> None:
    """Write the best of all queries to their rows and scores."""
    queries, probed, *_ = arrays
    n, count = rows.shape
    places = (None if array is None else array.ctypes.data for array in (*arrays, scores, rows))
    search = structs()["Search"](*places, queries.shape[1], candidates, count)
    shards = min(n, torch.get_num_threads())
    each = -(-n // shards)
    room = functions()["search_room"](byref(lists.struct), each, each * int(probed.max()), candidates)
    scratch = np.empty(shards * room + ROOM_ALIGNMENT, np.uint8)
    start = -(-scratch.ctypes.data // ROOM_ALIGNMENT) * ROOM_ALIGNMENT
    functions()["search_lists"](byref(lists.struct), byref(vectors.struct), byref(search), n, shards, room, start)


def _search_numpy(
    lists: CodeLists,
    vectors: ScoredVectors,
    query: int,
    candidates: int,
    arrays: tuple[Any, ...],
    rows: Int64,
    scores: Float32,
) -> None:
    """Write the best of one query to its rows and scores."""
    queries, probed, starts, excluded, allowed = arrays
    centroids, (low, steps) = lists.centroids[:-EXTRA_ROWS], lists.centroids[-EXTRA_ROWS:]
    unit = np.pad(queries[query], (0, len(low) - queries.shape[1]))
    products = centroids @ unit
    chosen = np.argsort(-products, kind="stable")[: probed[query]]
    scale = np.float32(max(np.abs(unit * steps).max() / QUERY_CODE, TINY))
    codes = np.pad(np.rint(unit * steps / scale), (0, -len(unit) % 4)).astype(np.int32).reshape(-1, 4)
    own = [np.arange(lists.starts[number], lists.starts[number + 1]) for number in chosen]
    blocks = np.concatenate(own)
    sums = np.einsum("bkri,ki->br", lists.codes[blocks].astype(np.int32), codes)
    bases = np.repeat(products[chosen] + unit @ low, [len(each) for each in own])
    found, number = bases[:, None] + scale * sums.astype(np.float32), lists.rows[blocks]
    valid = (number >= 0) & ~np.isin(number, excluded[starts[query] : starts[query + 1]])
    if allowed is not None:
        valid &= allowed[number] != 0
    best = number[valid][np.lexsort((number[valid], -found[valid]))[:candidates]].astype(np.int64)
    exact = vectors.score(queries, np.full(len(best), query), best)
    order = np.lexsort((best, -exact))[: rows.shape[1]]
    rows[query, : len(order)], scores[query, : len(order)] = best[order], exact[order]
