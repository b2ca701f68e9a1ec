"""Metrics of ranking: candidates are ordered by score for each query, and the held-out ones are looked for.

A query is an object of `in0`, a candidate one of `in1`. Both are numbered from 0.

Shapes: Q queries, B queries of a block, K candidates of a query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Bools, Float64, Int64

#: Scores of pairs (query, candidate), (n,) from two index arrays (n,).
Score = Callable[[Int64, Int64], npt.NDArray[np.floating]]

TOP: Final = (1, 5, 10, 20, 50, 100)
#: Pairs that are scored and sorted at a time.
BLOCK_PAIRS: Final = 2**21
#: Draws for a sampled candidate that is neither seen nor relevant, before it is left out.
MAX_DRAWS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingTask:
    """Pairs to find among `candidates` objects, and pairs seen in training, which are removed from the candidates.

    `relevant` and `seen` are (query, candidate) index arrays. `sampled` is how many candidates are drawn at random
    for each query, in addition to its relevant ones; None ranks all.
    """

    relevant: tuple[Int64, Int64]
    seen: tuple[Int64, Int64]
    candidates: int
    sampled: int | None = None
    seed: int = 0

    def blocks(self) -> Iterator[tuple[Int64, Int64, Bools, Bools]]:
        """Yield queries (B,), and for each its candidates in random order, which of them are valid, and relevant."""
        relevant = np.unique(self._keys(*self.relevant))
        seen = np.setdiff1d(self._keys(*self.seen), relevant)
        queries, counts = np.unique(relevant // self.candidates, return_counts=True)
        width = self.candidates if self.sampled is None else self.sampled + int(counts.max(initial=0))
        size = max(1, BLOCK_PAIRS // max(width, 1))
        generator = np.random.default_rng(self.seed)
        for start in range(0, len(queries), size):
            block = queries[start : start + size]
            if self.sampled is None:
                everything = np.tile(np.arange(self.candidates), (len(block), 1))
                keys = self._keys(block[:, None], generator.permuted(everything, axis=1))
                valid = ~_contains(seen, keys)
            else:
                keys, valid = self._draw(block, counts[start : start + size], relevant, seen, generator)
            yield block, keys % self.candidates, valid, _contains(relevant, keys) & valid

    def _keys(self, query: Int64, candidate: Int64) -> Int64:
        return query.astype(np.int64) * self.candidates + candidate

    def _draw(
        self, queries: Int64, counts: Int64, relevant: Int64, seen: Int64, generator: np.random.Generator
    ) -> tuple[Int64, Bools]:
        """Return the relevant candidates of each query and `sampled` others, in random order, and which are valid."""
        shape = len(queries), self.sampled or 0
        drawn, bad = np.empty(shape, np.int64), np.ones(shape, bool)
        for _ in range(MAX_DRAWS):
            draws = generator.integers(self.candidates, size=int(bad.sum()))
            drawn[bad] = self._keys(queries[np.nonzero(bad)[0]], draws)
            bad = _contains(relevant, drawn) | _contains(seen, drawn)
        starts = np.searchsorted(relevant, queries * self.candidates)
        places = np.arange(counts.max(initial=0))
        own = relevant[np.minimum(starts[:, None] + places, len(relevant) - 1)]
        keys = np.concatenate([own, drawn], axis=1)
        valid = np.concatenate([places < counts[:, None], ~bad], axis=1)
        order = generator.permuted(np.tile(np.arange(keys.shape[1]), (len(queries), 1)), axis=1)
        return np.take_along_axis(keys, order, 1), np.take_along_axis(valid, order, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The metrics of a ranking, means over queries: by `k`, and overall."""

    queries: int
    hits: Mapping[int, float]
    recall: Mapping[int, float]
    ndcg: Mapping[int, float]
    mrr: float
    mean_rank: float
    auc: float

    def metrics(self) -> dict[str, float]:
        """Return all metrics by name, such as `recall@10`."""
        by_k = {"hits": self.hits, "recall": self.recall, "ndcg": self.ndcg}
        named = {f"{name}@{k}": value for name, values in by_k.items() for k, value in values.items()}
        return named | {"mrr": self.mrr, "mean_rank": self.mean_rank, "auc": self.auc}


def rank(score: Score, task: RankingTask, top: Sequence[int] = TOP) -> Ranking:
    """Rank the candidates of each query by score, the highest first. Ties are in random order."""
    parts = []
    for queries, candidates, valid, relevant in task.blocks():
        rows = np.repeat(queries, candidates.shape[1])
        scores = np.asarray(score(rows, candidates.ravel()), np.float64).reshape(candidates.shape)
        order = np.argsort(np.where(valid, -scores, np.inf), axis=1, kind="stable")
        parts.append(_query_metrics(np.take_along_axis(relevant, order, 1), valid.sum(axis=1), top))
    values = np.concatenate(parts) if parts else np.empty((0, 3 * len(top) + 3))
    means = values.mean(axis=0).tolist() if len(values) else [float("nan")] * values.shape[1]
    by_k = [dict(zip(top, means[start : start + len(top)], strict=True)) for start in range(0, 3 * len(top), len(top))]
    mrr, mean_rank, auc = means[-3:]
    return Ranking(
        queries=len(values), hits=by_k[0], recall=by_k[1], ndcg=by_k[2], mrr=mrr, mean_rank=mean_rank, auc=auc
    )


def _query_metrics(found: Bools, valid: Int64, top: Sequence[int]) -> Float64:
    """Return the metrics of each query, (B, 3 × top + 3). `found` (B, K) marks relevant candidates by rank."""
    ranks = np.arange(1, found.shape[1] + 1)
    gains = np.append(1 / np.log2(ranks + 1), np.zeros(max(0, max(top) - len(ranks))))
    count = found.sum(axis=1)
    ideal = np.cumsum(gains)
    hits = np.stack([found[:, :k].any(axis=1) for k in top], 1)
    recall = np.stack([found[:, :k].sum(axis=1) / count for k in top], 1)
    ndcg = np.stack([found[:, :k] @ gains[: found[:, :k].shape[1]] / ideal[np.minimum(count, k) - 1] for k in top], 1)
    rank_sum = found @ ranks
    others = count * (valid - count)
    below = rank_sum - count * (count + 1) / 2  # pairs in which another candidate is before a relevant one
    auc = 1 - np.divide(below, others, out=np.full(len(count), 0.5), where=others > 0)
    return np.column_stack([hits, recall, ndcg, 1 / (found.argmax(axis=1) + 1), rank_sum / count, auc])


def _contains(keys: Int64, wanted: Int64) -> Bools:
    """Return which of `wanted` are in the sorted `keys`."""
    if not len(keys):
        return np.zeros(wanted.shape, bool)
    found = keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] == wanted
    return np.asarray(found)
