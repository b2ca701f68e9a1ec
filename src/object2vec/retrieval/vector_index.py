"""The nearest of N vectors, by cosine, inner product, or inner product and squared norm.

Shapes: N vectors, D dimensions, Q queries.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from object2vec.array_types import Bools, Float32, Int64
from object2vec.data.files import read_object
from object2vec.errors import ArtifactError
from object2vec.ops.vectors import METRICS, Metric
from object2vec.retrieval.array_files import open_array, write_array
from object2vec.retrieval.exact import Vectors, search_all, search_subset
from object2vec.retrieval.inverted_file import InvertedFile

#: Search is exact for at most so many vectors.
EXACT_UP_TO: Final = 100_000
#: If at most this share of the rows is allowed, they are copied and searched exactly.
FEW_ALLOWED: Final = 0.05
#: Rows of approximate search, in addition to k, whose scores are computed: the first with which the target is reached.
MORE_CANDIDATES: Final = (8, 32, 128)
#: The same for an index that does not say how many.
DEFAULT_CANDIDATES: Final = 32
#: How many lists are probed is chosen so that recall@10 reaches the target, on sampled queries.
TARGET_RECALL: Final = 0.955
RECALL_K: Final = 10
SAMPLE_QUERIES: Final = 800


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
        # Farther neighbors are in more lists.
        one = self.description["lists_probed"] / share
        sizes = map(len, excluded) if excluded else [0] * len(prepared)
        probed = np.array([ceil(one * max(1.0, (k + size) / RECALL_K) ** 0.5) for size in sizes], np.int64)
        rows, scores = self._lists.search(
            *(self._vectors, prepared, k),
            candidates=k + self.description.get("more_candidates", DEFAULT_CANDIDATES),
            probed=probed,
            allowed=allowed,
            excluded=excluded,
        )
        if len(lacking := np.flatnonzero(rows[:, k - 1 :] < 0)):
            own = None if excluded is None else [excluded[query] for query in lacking.tolist()]
            part = prepared[lacking]
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
        more = description.get("more_candidates", DEFAULT_CANDIDATES)
        if metric not in METRICS or not all(type(each) is int and each > 0 for each in (probed, more)):
            raise ArtifactError(
                f"{path}: metric {metric!r}, lists_probed {probed!r} and more_candidates {more!r}, wanted an index"
            )
        norms = open_array(directory / f"{prefix}norms.npy")
        if norms.shape != (len(vectors),) or norms.dtype != np.float32:
            raise ArtifactError(f"{directory / prefix}norms.npy: {len(norms)} norms, wanted {len(vectors)}")
        lists = None
        if description.get("kind") == "approximate":
            lists = InvertedFile.open(directory, prefix, len(vectors))
        return cls(Vectors(vectors, metric, norms=norms), description, lists)


def _choose_probes(
    vectors: Vectors, lists: InvertedFile, queries: Float32 | None, generator: np.random.Generator
) -> dict[str, Any]:
    """Return the number of lists to probe for the target recall, and the recall, in JSON values."""
    count = len(vectors if queries is None else queries)
    drawn = np.sort(generator.choice(count, min(count, SAMPLE_QUERIES), replace=False))
    sample = vectors.prepare((vectors.array if queries is None else queries)[drawn])
    # A vector is not its own neighbor.
    hidden = None if queries is not None else list(drawn[:, None])
    wanted, _ = search_all(vectors, sample, RECALL_K, excluded=hidden)

    def recall(probed: int, more: int) -> float:
        found, _ = lists.search(
            *(vectors, sample, RECALL_K),
            candidates=RECALL_K + more,
            probed=np.full(len(sample), probed),
            excluded=hidden,
        )
        return float(np.mean((found[:, :, None] == wanted[:, None, :]).any(axis=2)))

    total, probed, reached, more = len(lists.lists), 1, 0.0, 0
    for more in MORE_CANDIDATES:
        probed = 1 + bisect_left(range(1, total), TARGET_RECALL, key=partial(recall, more=more))
        if (reached := recall(probed, more)) >= TARGET_RECALL:
            break
    return {"lists": total, "lists_probed": probed, "more_candidates": more, "recall@10": round(reached, 4)}
