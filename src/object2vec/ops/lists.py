"""Approximate scores of vectors that are kept as codes of 7 bits, in lists.

Shapes: n queries, each probes p lists; B blocks of `BLOCK_ROWS` rows; K quads, of 4 dimensions each.
"""

from __future__ import annotations

from ctypes import byref
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from object2vec.array_types import Bools, Float32, Int32, Int64
from object2vec.ops.arguments import check_shapes
from object2vec.ops.library import available, functions, structs

#: As in csrc/api.h. A list has whole blocks.
BLOCK_ROWS: Final = 32
MAX_CODE: Final = 127

Codes = npt.NDArray[np.uint8]
Int8 = npt.NDArray[np.int8]


class CodeLists:
    """Vectors in lists: list l has the blocks starts[l]:starts[l + 1].

    `codes` are (B, K, BLOCK_ROWS, 4), and `rows` (B, BLOCK_ROWS) the numbers of the vectors, -1 for none.
    """

    def __init__(self, codes: Codes, rows: Int32, starts: Int64, vectors: int) -> None:
        """Check the arrays, which can be memory-mapped.

        Raises:
            ValueError: they do not fit, or name other rows than those of `vectors`.
        """
        blocks = len(codes)
        check_shapes("CodeLists", codes=(codes, (*codes.shape[:2], BLOCK_ROWS, 4)), rows=(rows, (blocks, BLOCK_ROWS)))
        for array, dtype in ((codes, np.uint8), (rows, np.int32), (starts, np.int64)):
            if array.dtype != dtype or not array.flags.c_contiguous:
                raise ValueError(f"CodeLists: {array.dtype}, wanted {np.dtype(dtype)}, contiguous")
        if starts.ndim != 1 or starts[0] != 0 or starts[-1] != blocks or np.any(np.diff(starts) < 0):
            raise ValueError(f"CodeLists: starts must ascend from 0 to {blocks}")
        if blocks and (rows.min() < -1 or rows.max() >= vectors):
            raise ValueError(f"CodeLists: rows must be from -1 to {vectors - 1}")
        self.codes, self.rows, self.starts, self.vectors = codes, rows, starts, vectors

    def __len__(self) -> int:
        return len(self.starts) - 1


def scan_lists(
    lists: CodeLists,
    queries: tuple[Int8, Float32],
    probes: tuple[Int64, Float32],
    count: int,
    allowed: Bools | None = None,
) -> tuple[Int64, Float32]:
    """Return the `count` rows with the highest scores of each query among those of its lists, and the scores.

    Both are (n, count), in any order; where fewer are found, the row is -1 and the score -inf. The result for a query
    does not depend on other queries.

    Args:
        lists: the vectors.
        queries: codes (n, K * 4) and positive scales (n,).
        probes: lists (n, p) and bases (n, p). A score is base + scale * sum of products of codes.
        count: how many to find.
        allowed: the rows that may be found, (vectors,); all if None.
    """
    (codes, scales), (numbers, bases) = queries, probes
    n, probed = numbers.shape
    check_shapes(
        "scan_lists",
        codes=(codes, (n, 4 * lists.codes.shape[1])),
        scales=(scales, (n,)),
        bases=(bases, (n, probed)),
        allowed=(scales if allowed is None else allowed, (n if allowed is None else lists.vectors,)),
    )
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(lists):
        raise ValueError(f"scan_lists: lists must be from 0 to {len(lists) - 1}")
    scores, rows = np.full((n, count), -np.inf, np.float32), np.full((n, count), -1, np.int64)
    if not (n and probed and count):
        return rows, scores
    arrays: tuple[Any, ...] = (
        *(np.ascontiguousarray(codes, np.int8), np.ascontiguousarray(numbers, np.int64)),
        *(np.ascontiguousarray(bases, np.float32), np.ascontiguousarray(scales, np.float32)),
        None if allowed is None else np.ascontiguousarray(allowed, np.uint8),
    )
    if not available():
        for query in range(n):
            _scan_numpy(lists, query, arrays, rows, scores)
        return rows, scores
    shards = min(n, torch.get_num_threads())
    visits, ends = np.empty((n, probed), np.int32), np.empty((shards, len(lists) + 1), np.int64)
    given_lists = structs()["Lists"](
        *map(_address, (lists.codes, lists.rows, lists.starts)), len(lists), len(codes[0]) // 4
    )
    given_probes = structs()["Probes"](*map(_address, (*arrays, scores, rows)), probed, count)
    functions()["scan_lists"](byref(given_lists), byref(given_probes), n, shards, _address(visits), _address(ends))
    return rows, scores


def _address(array: Any) -> int | None:
    return None if array is None else int(array.ctypes.data)


def _scan_numpy(lists: CodeLists, query: int, arrays: tuple[Any, ...], rows: Int64, scores: Float32) -> None:
    """Write the best of one query to its rows and scores."""
    codes, numbers, bases, scales, allowed = arrays
    own = [np.arange(lists.starts[number], lists.starts[number + 1]) for number in numbers[query]]
    blocks = np.concatenate(own)
    quads = codes[query].astype(np.int32).reshape(-1, 4)
    sums = np.einsum("bkri,ki->br", lists.codes[blocks].astype(np.int32), quads)
    found = np.repeat(bases[query], [len(each) for each in own])[:, None] + scales[query] * sums.astype(np.float32)
    number = lists.rows[blocks]
    valid = (number >= 0) if allowed is None else (number >= 0) & (allowed[number] != 0)
    best = np.argsort(-found[valid], kind="stable")[: rows.shape[1]]
    rows[query, : len(best)], scores[query, : len(best)] = number[valid][best], found[valid][best]
