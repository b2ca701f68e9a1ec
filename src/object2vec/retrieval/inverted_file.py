"""Approximate search: spherical k-means puts vectors in lists, and a query scans the codes of the lists nearest to it.

Shapes: N vectors, D dimensions, Q queries, L lists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from object2vec.array_types import Bools, Float32, Int64
from object2vec.errors import ArtifactError
from object2vec.ops.lists import BLOCK_ROWS, MAX_CODE, CodeLists, scan_lists
from object2vec.retrieval.array_files import open_array, write_array
from object2vec.retrieval.exact import TINY, Vectors, as_tensor

#: Vectors that are assigned and encoded at a time, and queries that are searched at a time.
CHUNK_ROWS: Final = 2**13
CHUNK_QUERIES: Final = 2**10
#: Vectors of each list that k-means looks at, and how often.
SAMPLE_PER_LIST: Final = 32
ITERATIONS: Final = 10
_FILES: Final = ("codes", "rows", "starts", "centroids")


@dataclass(frozen=True, slots=True)
class InvertedFile:
    """N unit vectors in L lists, each as the codes of its difference from the centroid of its list.

    `centroids` (L + 2, D) has two rows more: the difference of code 0, and of one step.
    """

    lists: CodeLists
    centroids: Float32

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
        stored = torch.cat([centroids, low[None], steps[None]]).numpy()
        return cls(_encode(vectors, stored), stored)

    def search(self, queries: Tensor, count: int, probed: int, allowed: Bools | None = None) -> Int64:
        """Return the rows (Q, count) of the highest approximate products with queries (Q, D), in any order.

        Where fewer are found, the row is -1.
        """
        stored = as_tensor(self.centroids)
        centroids, low, steps = stored[:-2], stored[-2], stored[-1]
        found = []
        for part in queries.split(CHUNK_QUERIES):  # type: ignore[no-untyped-call]
            units = torch.nn.functional.pad(part, (0, stored.shape[1] - part.shape[1]))
            near = (units @ centroids.T).topk(min(probed, len(centroids)), dim=1, sorted=False)
            scaled = units * steps
            scales = (scaled.abs().amax(1) / MAX_CODE).clamp(min=TINY)
            codes = torch.nn.functional.pad((scaled / scales[:, None]).round(), (0, -scaled.shape[1] % 4))
            bases = near.values + (units @ low)[:, None]
            given = codes.to(torch.int8).numpy(), scales.numpy()
            found.append(scan_lists(self.lists, given, (near.indices.numpy(), bases.numpy()), count, allowed)[0])
        return np.concatenate(found) if found else np.empty((0, count), np.int64)

    def fills(self, prefix: str) -> dict[str, Callable[[Path], object]]:
        """Return the names of the files, each with a function that writes it."""
        arrays = self.lists.codes, self.lists.rows, self.lists.starts, self.centroids
        return {f"{prefix}{name}.npy": partial(write_array, array) for name, array in zip(_FILES, arrays, strict=True)}

    @classmethod
    def open(cls, directory: Path, prefix: str, count: int) -> InvertedFile:
        """Open the files that `fills` wrote for `count` vectors, memory-mapped.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        codes, rows, starts, centroids = (open_array(directory / f"{prefix}{name}.npy") for name in _FILES)
        try:
            lists = CodeLists(codes, rows, starts, count)
        except (ValueError, IndexError) as error:
            raise ArtifactError(f"{directory / prefix}*: damaged lists ({error})") from error
        if centroids.ndim != 2 or centroids.dtype != np.float32 or len(centroids) != len(lists) + 2:
            raise ArtifactError(f"{directory / prefix}centroids.npy: does not fit the lists")
        return cls(lists, centroids)


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
    chunks = range(0, len(points), CHUNK_ROWS)
    return torch.cat([(points[at : at + CHUNK_ROWS] @ centroids.T).argmax(1) for at in chunks])


def _encode(vectors: Vectors, stored: Float32) -> CodeLists:
    """Return the codes of all vectors in their lists."""
    tensor = torch.from_numpy(stored)
    centroids, low, steps = tensor[:-2], tensor[-2], tensor[-1]
    chunks = [slice(at, at + CHUNK_ROWS) for at in range(0, len(vectors), CHUNK_ROWS)]
    nearest = torch.cat([_nearest(unit_vectors(vectors, rows), centroids) for rows in chunks])
    sizes = torch.bincount(nearest, minlength=len(centroids)).numpy()
    starts = np.concatenate([[0], np.cumsum(-(-sizes // BLOCK_ROWS))]).astype(np.int64)
    order = np.argsort(nearest.numpy(), kind="stable")
    place = np.empty(len(vectors), np.int64)  # of each vector, among the rows of all blocks
    place[order] = np.arange(len(order)) + np.repeat(starts[:-1] * BLOCK_ROWS - (np.cumsum(sizes) - sizes), sizes)
    quads = -(-stored.shape[1] // 4)
    codes = np.zeros((starts[-1], quads, BLOCK_ROWS), np.uint32)  # four codes each
    numbers = np.full((starts[-1], BLOCK_ROWS), -1, np.int32)
    for rows in chunks:
        residuals = unit_vectors(vectors, rows) - centroids[nearest[rows]] - low
        found = (residuals / steps).round_().clamp_(0, MAX_CODE).to(torch.uint8)
        padded = torch.nn.functional.pad(found, (0, 4 * quads - found.shape[1])).numpy()
        block, row = np.divmod(place[rows], BLOCK_ROWS)
        codes[block, :, row] = padded.view(np.uint32)
        numbers[block, row] = np.arange(rows.start, rows.start + len(block))
    return CodeLists(codes.view(np.uint8).reshape(*codes.shape, 4), numbers, starts, len(vectors))
