"""The nearest of N vectors, by cosine, inner product, or inner product and squared norm.

Shapes: N vectors, D dimensions, Q queries.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from object2vec.array_types import Bools, Float32, Int64
from object2vec.data.files import read_object
from object2vec.errors import ArtifactError
from object2vec.retrieval.array_files import open_array, write_array
from object2vec.retrieval.exact import METRICS, Metric, Vectors, best_pairs, highest, search_all, search_subset
from object2vec.retrieval.inverted_file import InvertedFile

#: Search is exact for at most so many vectors.
EXACT_UP_TO: Final = 100_000
#: If at most this share of the rows is allowed, they are copied and searched exactly.
FEW_ALLOWED: Final = 0.05
#: Rows of approximate search, in addition to k, whose scores are computed.
MORE_CANDIDATES: Final = 32
#: How many lists are probed is chosen so that recall@10 reaches the target, on sampled queries.
TARGET_RECALL: Final = 0.96
RECALL_K: Final = 10
SAMPLE_QUERIES: Final = 400


class VectorIndex:
    """The k nearest of N vectors (N, D). Search is exact up to `EXACT_UP_TO` vectors, approximate for more."""

    def __init__(self, vectors: Vectors, description: Mapping[str, Any], lists: InvertedFile | None = None) -> None:
        self._vectors = vectors
        self._lists = lists
        #: How the index searches, in JSON values: its kind; if it is approximate, the probed lists and the recall.
        self.description = description

    @classmethod
    def build(cls, vectors: Float32, metric: Metric, *, queries: Float32 | None = None, seed: int = 0) -> VectorIndex:
        """Return an index of `vectors`, which are not copied; they can be memory-mapped.

        Args:
            vectors: the vectors (N, D).
            metric: the score of a query and a vector.
            queries: examples of queries, for which recall is measured; by default vectors themselves.
            seed: of what is drawn.
        """
        found = Vectors(vectors, metric)
        if len(vectors) <= EXACT_UP_TO:
            return cls(found, {"kind": "exact", "metric": metric})
        with torch.inference_mode():
            lists = InvertedFile.build(found, seed=seed)
            measured = _choose_probes(found, lists, queries, np.random.default_rng(seed))
        return cls(found, {"kind": "approximate", "metric": metric} | measured, lists)

    @torch.inference_mode()
    def search(
        self,
        queries: Float32,
        k: int,
        *,
        allowed: Bools | None = None,
        excluded: Sequence[Int64] | None = None,
    ) -> tuple[Int64, Float32]:
        """Return the rows (Q, k) of the nearest vectors, and their scores, highest first; equal scores by row.

        Where fewer are found, the row is -1 and the score -inf.

        Args:
            queries: vectors (Q, D), or (Q, D + 1) with the factor of a vector's squared norm.
            k: how many to find for each query.
            allowed: which rows may be found (N,), for all queries.
            excluded: rows that are not to be found, for each query.
        """
        prepared = self._vectors.prepare(queries)
        share = 1.0 if allowed is None else np.count_nonzero(allowed) / max(len(allowed), 1)
        if allowed is not None and share <= FEW_ALLOWED:
            return search_subset(self._vectors, prepared, k, np.flatnonzero(allowed), excluded)
        if self._lists is None:
            return search_all(self._vectors, prepared, k, allowed=allowed, excluded=excluded)
        hidden_rows = max(map(len, excluded or ()), default=0)
        # Farther neighbors are in more lists.
        factor = max(1.0, (k + hidden_rows) / RECALL_K) ** 0.5 / share
        probed = int(np.ceil(self.description["lists_probed"] * factor))
        candidates = self._lists.search(prepared, k + hidden_rows + MORE_CANDIDATES, probed, allowed)
        for query, hidden in enumerate(excluded or ()):
            candidates[query, np.isin(candidates[query], hidden)] = -1
        rows, scores = _best(self._vectors, prepared, candidates, k)
        if len(lacking := np.flatnonzero(rows[:, k - 1 :] < 0)):
            own = None if excluded is None else [excluded[query] for query in lacking.tolist()]
            part = prepared[torch.from_numpy(lacking)]
            rows[lacking], scores[lacking] = search_all(self._vectors, part, k, allowed=allowed, excluded=own)
        return rows, scores

    def fills(self, prefix: str) -> dict[str, Callable[[Path], object]]:
        """Return the names of the index's files, each with a function that writes it; the vectors are not written."""
        return {
            **(self._lists.fills(prefix) if self._lists else {}),
            f"{prefix}norms.npy": partial(write_array, self._vectors.norms.numpy()),
            f"{prefix}json": lambda path: path.write_text(json.dumps(dict(self.description), indent=2) + "\n"),
        }

    @classmethod
    def open(cls, directory: Path, prefix: str, vectors: Float32) -> VectorIndex:
        """Open the index of `vectors` that `fills` wrote with this prefix; all arrays are memory-mapped.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        path = directory / f"{prefix}json"
        description = read_object(path, "wanted the description of an index", ArtifactError)
        metric, probed = description.get("metric"), description.get("lists_probed", 1)
        if metric not in METRICS or type(probed) is not int or probed < 1:
            raise ArtifactError(f"{path}: metric {metric!r} and lists_probed {probed!r}, wanted an index")
        norms = open_array(directory / f"{prefix}norms.npy")
        if norms.shape != (len(vectors),) or norms.dtype != np.float32:
            raise ArtifactError(f"{directory / prefix}norms.npy: {len(norms)} norms, wanted {len(vectors)}")
        lists = None
        if description.get("kind") == "approximate":
            lists = InvertedFile.open(directory, prefix, len(vectors))
        return cls(Vectors(vectors, metric, norms=norms), description, lists)


def _best(vectors: Vectors, queries: Tensor, candidates: Int64, k: int) -> tuple[Int64, Float32]:
    """Return the k best (Q, k) of the candidates (Q, n) of each query by their scores; -1 is no candidate."""
    left, place = np.nonzero(candidates >= 0)
    scores = np.full(candidates.shape, -np.inf, np.float32)
    scores[left, place] = vectors.score(queries, left, candidates[left, place])
    left, place = highest(scores, k)
    return best_pairs(left, candidates[left, place], scores[left, place], len(queries), k)


def _choose_probes(
    vectors: Vectors, lists: InvertedFile, queries: Float32 | None, generator: np.random.Generator
) -> dict[str, Any]:
    """Return the number of lists to probe for the target recall, and the recall, in JSON values."""
    count = len(vectors if queries is None else queries)
    drawn = np.sort(generator.choice(count, min(count, SAMPLE_QUERIES), replace=False))
    sample = vectors.prepare((vectors.array if queries is None else queries)[drawn])
    # A vector is not its own neighbor.
    hidden = drawn[:, None] if queries is None else np.full((len(drawn), 1), -1)
    wanted, _ = search_all(vectors, sample, RECALL_K, excluded=list(hidden))
    total, recall, probed = len(lists.lists), 0.0, 0
    for probed in sorted({min(total, size * 2**power // 4) for power in range(32) for size in (4, 5, 6, 7)}):
        candidates = lists.search(sample, RECALL_K + MORE_CANDIDATES, probed)
        candidates[candidates == hidden] = -1
        found, _ = _best(vectors, sample, candidates, RECALL_K)
        recall = float(np.mean((found[:, :, None] == wanted[:, None, :]).any(axis=2)))
        if recall >= TARGET_RECALL:
            break
    return {"lists": total, "lists_probed": probed, "recall@10": round(recall, 4)}
