"""An approximation of the network's scores of one query for all candidates, fitted to its scores of a few: the anchors.

Shapes: N candidates, D dimensions of an encoding, Q queries, A anchors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from object2vec.array_types import Int64
from object2vec.retrieval.pair_scores import PairScores

#: Anchors for each number that is fitted.
ANCHORS_PER_DIM: Final = 4
MAX_ANCHORS: Final = 2_048
#: What is added to the diagonal of the fit's products, as a share of their mean.
RIDGE: Final = 1e-6
#: How many candidates of the approximation the network scores: enough to reach the target, on samples.
RERANKED: Final = tuple(125 * 2**power for power in range(7))
TARGET_RECALL: Final = 0.97
RECALL_K: Final = 10
SAMPLE_QUERIES: Final = 32
SAMPLE_ROWS: Final = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """Candidates that the network scores for each query, and the function that it fits to the scores.

    The function is linear in the encoding, its squared norm and 1. Close encodings often have high scores; the square
    shows that.
    """

    rows: Int64  # (A,)
    fit: Tensor  # (D + 2, A)
    reranked: int
    recall: float

    @classmethod
    def build(cls, scores: PairScores, vectors: Tensor, queries: Tensor, *, seed: int = 0) -> Anchors:
        """Draw anchors from the candidates (N, D), and measure on queries (Q, D) how many must be re-ranked."""
        generator = np.random.default_rng(seed)
        size = min(len(vectors), ANCHORS_PER_DIM * (vectors.shape[1] + 2), MAX_ANCHORS)
        rows = np.sort(generator.choice(len(vectors), size, replace=False))
        found = cls.restore(vectors, rows, reranked=RERANKED[-1], recall=0.0)
        drawn = queries[
            torch.from_numpy(generator.choice(len(queries), min(len(queries), SAMPLE_QUERIES), replace=False))
        ]
        sample = np.sort(generator.choice(len(vectors), min(len(vectors), SAMPLE_ROWS), replace=False))
        ranks = found._ranks(scores, vectors, drawn, sample)
        for reranked in RERANKED:
            # Of the sample, the same share is re-ranked.
            recall = float(np.mean(ranks < reranked * len(sample) / len(vectors)))
            if recall >= TARGET_RECALL:
                break
        return replace(found, reranked=reranked, recall=recall)

    @classmethod
    def restore(cls, vectors: Tensor, rows: Int64, *, reranked: int, recall: float) -> Anchors:
        """Return the anchors with these rows of the candidates (N, D)."""
        features = _features(vectors[torch.from_numpy(rows)]).double()
        products = features.T @ features
        products += RIDGE * products.trace() / len(products) * torch.eye(len(products))
        fit: Tensor = torch.linalg.solve(products, features.T)
        return cls(rows=rows, fit=fit.float(), reranked=reranked, recall=recall)

    @property
    def description(self) -> Mapping[str, Any]:
        """Return the sizes, in JSON values."""
        return {"anchors": len(self.rows), "reranked": self.reranked, "recall@10": round(self.recall, 4)}

    def fitted(self, scores: PairScores, vectors: Tensor, queries: Tensor) -> Tensor:
        """Return the factors (Q, D + 2) of candidates' features for each query."""
        left, right = np.divmod(np.arange(len(queries) * len(self.rows)), len(self.rows))
        own = torch.from_numpy(scores(queries, vectors, left, self.rows[right]))
        return own.view(len(queries), len(self.rows)) @ self.fit.T

    def _ranks(self, scores: PairScores, vectors: Tensor, queries: Tensor, rows: Int64) -> Int64:
        """Return the places (Q, RECALL_K), by the approximation, of the rows with the highest scores of each query."""
        approximate = self.fitted(scores, vectors, queries) @ _features(vectors[torch.from_numpy(rows)]).T
        found = []
        for number in range(len(queries)):
            exact = torch.from_numpy(scores(queries, vectors, np.full(len(rows), number), rows))
            best = exact.topk(min(RECALL_K, len(rows))).indices
            found.append((approximate[number] > approximate[number, best, None]).sum(1).numpy())
        return np.stack(found)


def _features(vectors: Tensor) -> Tensor:
    """Return the vectors (n, D) with their squared norm and 1, (n, D + 2)."""
    return torch.cat([vectors, vectors.square().sum(1, keepdim=True), torch.ones(len(vectors), 1)], 1)
