"""Two-dimensional projections of vectors, clusters, and how well a projection keeps them.

Shapes: N vectors, D dimensions, S sampled rows, K neighbors.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from object2vec.array_types import Float32, Int64

#: Rows on which a projection is evaluated, drawn with a fixed seed.
SAMPLE_ROWS: Final = 1000
#: Rows whose distances to all others are in memory at a time.
BLOCK_ROWS: Final = 64
KMEANS_ROUNDS: Final = 25
#: Vectors from which the centers of clusters are learned.
KMEANS_ROWS: Final = 20_000
MAX_CLUSTERS: Final = 16


def unit_vectors(vectors: Float32) -> Float32:
    """Return the vectors at length 1; a zero vector stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, np.float32(1e-12)), np.float32)


def sample_rows(count: int, size: int = SAMPLE_ROWS) -> Int64:
    """Return sampled rows, (S,), ascending; the same for the same count."""
    return np.sort(np.random.default_rng(0).choice(count, min(count, size), replace=False)).astype(np.int64)


def pca(vectors: Float32) -> Float32:
    """Return the first two principal components of vectors, (N, 2), in [-1, 1].

    The sign of a component is that of its largest weight, so that the result repeats.
    """
    moved = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(moved.T.astype(np.float64) @ moved)
    first = axes[:, ::-1][:, :2]
    first = first * np.where(first[np.abs(first).argmax(axis=0), np.arange(first.shape[1])] < 0, -1, 1)
    points = np.zeros((len(vectors), 2), np.float32)
    points[:, : first.shape[1]] = moved @ first
    return centered(points)


def centered(points: Float32) -> Float32:
    """Return points (N, 2) moved and scaled to [-1, 1]; both axes keep their proportion."""
    low, high = points.min(axis=0), points.max(axis=0)
    return np.asarray((points - (low + high) / 2) / max(float((high - low).max()) / 2, 1e-12), np.float32)


def clusters_of(units: Float32) -> Int64:
    """Return the cluster (N,) of each unit vector, by k-means with cosine; clusters are numbered by size."""
    generator = np.random.default_rng(0)
    sample = units[sample_rows(len(units), KMEANS_ROWS)]
    wanted = max(1, min(MAX_CLUSTERS, round((len(units) / 20) ** 0.5)))
    centers = sample[:1]
    for _ in range(wanted - 1):  # k-means++: far vectors are likely centers
        distance = np.maximum(1 - (sample @ centers.T).max(axis=1), 0).astype(np.float64) ** 2
        if distance.sum() <= 0:
            break
        centers = np.concatenate([centers, sample[[generator.choice(len(sample), p=distance / distance.sum())]]])
    for _ in range(KMEANS_ROUNDS):
        nearest = (sample @ centers.T).argmax(axis=1)
        sums = np.zeros_like(centers)
        np.add.at(sums, nearest, sample)
        filled = np.bincount(nearest, minlength=len(centers))[:, None] > 0
        centers = unit_vectors(np.where(filled, sums, centers))
    nearest = (units @ centers.T).argmax(axis=1)
    _, numbered = np.unique(nearest, return_inverse=True)
    order = np.argsort(-np.bincount(numbered), kind="stable")
    return np.asarray(np.argsort(order)[numbered], np.int64)


def judge(points: Float32, clusters: Int64, rows: Int64, neighbors: Int64) -> dict[str, float]:
    """Return the share of neighbors (S, K) of rows (S,) that are near in a projection, and of near points in a cluster.

    -1 is no neighbor.
    """
    kept, same, k = 0.0, 0.0, min(neighbors.shape[1], len(points) - 1)
    if k < 1:
        return {"neighbors_kept": 1.0, "same_cluster": 1.0}
    for start in range(0, len(rows), BLOCK_ROWS):
        part = rows[start : start + BLOCK_ROWS]
        distances = np.square(points[part, None, :] - points[None, :, :]).sum(axis=2)
        distances[np.arange(len(part)), part] = np.inf
        near = np.argpartition(distances, k - 1, axis=1)[:, :k]
        wanted = neighbors[start : start + BLOCK_ROWS, :k]
        kept += float((near[:, :, None] == wanted[:, None, :]).any(axis=2).sum())
        same += float((clusters[near] == clusters[part][:, None]).sum())
    total = len(rows) * k
    return {"neighbors_kept": round(kept / total, 4), "same_cluster": round(same / total, 4)}
