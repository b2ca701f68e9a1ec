"""Approximate search: spherical k-means puts vectors in lists, and a query scans the codes of the lists nearest to it.

Shapes: N vectors, D dimensions, Q queries, L lists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from object2vec.array_types import Bools, Float32, Int64
from object2vec.errors import ArtifactError
from object2vec.ops.lists import BLOCK_ROWS, EXTRA_ROWS, MAX_CODE, CodeLists, search_lists
from object2vec.ops.vectors import TINY
from object2vec.retrieval.array_files import open_array, write_array
from object2vec.retrieval.exact import Vectors

#: Vectors that are assigned and encoded at a time, and queries that are searched at a time.
CHUNK_ROWS: Final = 2**13
CHUNK_QUERIES: Final = 2**10
#: Vectors of each list that k-means looks at, and how often.
SAMPLE_PER_LIST: Final = 32
ITERATIONS: Final = 10
_FILES: Final = ("codes", "rows", "starts", "centroids")


@dataclass(frozen=True, slots=True)
class InvertedFile:
    """N unit vectors in lists, each as the codes of its difference from the centroid of its list."""

    lists: CodeLists

    @classmethod
    def build(cls, vectors: Vectors, *, seed: int = 0) -> InvertedFile:
        """Return the lists of vectors. Memory beyond the codes is bounded."""
        count = len(vectors)
        lists = 2 ** round(np.log2(2 * count**0.5))
        generator = np.random.default_rng(seed)
        sample = np.sort(generator.choice(count, min(count, SAMPLE_PER_LIST * lists), replace=False))
        units = unit_vectors(vectors, torch.from_numpy(sample))
        centroids = spherical_k_means(units, lists, generator)
        residuals = units - centroids[_nearest(units, centroids)]
        low, high = residuals.amin(0), residuals.amax(0)
        steps = ((high - low) / MAX_CODE).clamp(min=TINY)
        return cls(_encode(vectors, torch.cat([centroids, low[None], steps[None]])))

    def search(
        self,
        vectors: Vectors,
        queries: Float32,
        count: int,
        *,
        candidates: int,
        probed: Int64,
        allowed: Bools | None = None,
        excluded: Sequence[Int64] | None = None,
    ) -> tuple[Int64, Float32]:
        """Return the rows (Q, count) of the highest scores with prepared queries (Q, D), and the scores.

        See `search_lists`.
        """
        found = []
        for start in range(0, max(1, len(queries)), CHUNK_QUERIES):
            part = slice(start, start + CHUNK_QUERIES)
            found.append(
                search_lists(
                    self.lists,
                    vectors.scored,
                    queries[part],
                    count,
                    candidates=candidates,
                    probed=probed[part],
                    allowed=allowed,
                    excluded=None if excluded is None else excluded[part],
                )
            )
        rows, scores = zip(*found, strict=True)
        return (rows[0], scores[0]) if len(found) == 1 else (np.concatenate(rows), np.concatenate(scores))

    def fills(self, prefix: str) -> dict[str, Callable[[Path], object]]:
        """Return the names of the files, each with a function that writes it."""
        arrays = self.lists.codes, self.lists.rows, self.lists.starts, self.lists.centroids
        return {f"{prefix}{name}.npy": partial(write_array, array) for name, array in zip(_FILES, arrays, strict=True)}

    @classmethod
    def open(cls, directory: Path, prefix: str, count: int) -> InvertedFile:
        """Open the files that `fills` wrote for `count` vectors, memory-mapped.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        codes, rows, starts, centroids = (open_array(directory / f"{prefix}{name}.npy") for name in _FILES)
        try:
            return cls(CodeLists(codes, rows, starts, centroids, count))
        except (ValueError, IndexError) as error:
            raise ArtifactError(f"{directory / prefix}*: damaged lists ({error})") from error


def unit_vectors(vectors: Vectors, rows: Tensor | slice) -> Tensor:
    """Return vectors of length 1 whose products with a query are in the order of the scores.

    For products that are no cosines, vectors are divided by the greatest norm, and get one dimension more, which makes
    their length 1. A query has 0 there.
    """
    part, norms = vectors.tensor[rows], vectors.norms[rows, None]
    if vectors.metric == "cosine":
        return part / norms.clamp(min=TINY)
    if vectors.metric == "dot_and_square":
        part = torch.cat([part, norms.square()], dim=1)
    longest = vectors.lengths(slice(None)).max().clamp(min=TINY)
    rest = (1 - (vectors.lengths(rows)[:, None] / longest) ** 2).clamp(min=0).sqrt()
    return torch.cat([part / longest, rest], dim=1)


def spherical_k_means(points: Tensor, count: int, generator: np.random.Generator) -> Tensor:
    """Return `count` centroids of length 1 of unit vectors (n, D)."""
    centroids = points[torch.from_numpy(generator.choice(len(points), count, replace=False))]
    for _ in range(ITERATIONS):
        nearest = _nearest(points, centroids)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, points)
        empty = torch.nonzero(torch.bincount(nearest, minlength=count) == 0)[:, 0]
        sums[empty] = points[torch.from_numpy(generator.choice(len(points), len(empty), replace=False))]
        centroids = sums / sums.norm(dim=1, keepdim=True).clamp(min=TINY)
    return centroids


def _nearest(points: Tensor, centroids: Tensor) -> Tensor:
    """Return the index of the nearest centroid of each point, (n,)."""
    return torch.cat([(points[rows] @ centroids.T).argmax(1) for rows in _chunks(len(points))])


def _chunks(count: int) -> list[slice]:
    return [slice(at, at + CHUNK_ROWS) for at in range(0, count, CHUNK_ROWS)]


def _encode(vectors: Vectors, stored: Tensor) -> CodeLists:
    """Return the codes of all vectors in the lists of centroids; for `stored`, see `CodeLists`."""
    centroids, (low, steps) = stored[:-EXTRA_ROWS], stored[-EXTRA_ROWS:]
    nearest = torch.cat([_nearest(unit_vectors(vectors, rows), centroids) for rows in _chunks(len(vectors))])
    sizes = torch.bincount(nearest, minlength=len(centroids)).numpy()
    starts = np.concatenate([[0], np.cumsum(-(-sizes // BLOCK_ROWS))]).astype(np.int64)
    order = np.argsort(nearest.numpy(), kind="stable")
    place = np.empty(len(vectors), np.int64)  # of each vector, among the rows of all blocks
    place[order] = np.arange(len(order)) + np.repeat(starts[:-1] * BLOCK_ROWS - (np.cumsum(sizes) - sizes), sizes)
    quads = -(-centroids.shape[1] // 4)
    codes = np.zeros((starts[-1], quads, BLOCK_ROWS), np.uint32)  # four codes each
    numbers = np.full((starts[-1], BLOCK_ROWS), -1, np.int32)
    for rows in _chunks(len(vectors)):
        residuals = unit_vectors(vectors, rows) - centroids[nearest[rows]] - low
        found = (residuals / steps).round_().clamp_(0, MAX_CODE)
        padded = torch.nn.functional.pad(found, (0, 4 * quads - found.shape[1])).to(torch.uint8).numpy()
        block, row = np.divmod(place[rows], BLOCK_ROWS)
        codes[block, :, row] = padded.view(np.uint32)
        numbers[block, row] = np.arange(rows.start, rows.start + len(block))
    return CodeLists(codes.view(np.uint8).reshape(*codes.shape, 4), numbers, starts, stored.numpy(), len(vectors))
