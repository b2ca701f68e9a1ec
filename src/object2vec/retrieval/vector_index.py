"""The nearest of N vectors, by cosine or inner product.

Shapes: N vectors, D dimensions, Q queries.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from object2vec.array_types import Bools, Float32, Int64
from object2vec.retrieval.exact import top_k

Metric = Literal["cosine", "dot"]


class VectorIndex:
    """The k nearest of N vectors (N, D). Search is exact up to `EXACT_UP_TO` vectors, approximate for more."""

    def __init__(self, vectors: Float32, metric: Metric) -> None:
        self.vectors = vectors
        self.metric: Metric = metric
        #: How the index searches, in JSON values: its kind, and measured recall if it is approximate.
        self.description: Mapping[str, Any] = {"kind": "exact", "metric": metric, "vectors": len(vectors)}

    @classmethod
    def build(cls, vectors: Float32, metric: Metric, *, seed: int = 0) -> VectorIndex:
        """Return an index of `vectors`, which are not copied; they can be memory-mapped."""
        del seed
        return cls(vectors, metric)

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
            queries: vectors (Q, D).
            k: how many to find for each query.
            allowed: which rows may be found (N,), for all queries.
            excluded: rows that are not to be found, for each query.
        """
        return top_k(self.vectors, queries, k, cosine=self.metric == "cosine", allowed=allowed, excluded=excluded)

    def fills(self, prefix: str) -> dict[str, Callable[[Path], object]]:
        """Return the names of the index's files, each with a function that writes it; the vectors are not written."""
        return {
            f"{prefix}index.json": lambda path: path.write_text(json.dumps(dict(self.description), indent=2) + "\n")
        }

    @classmethod
    def open(cls, directory: Path, prefix: str, vectors: Float32) -> VectorIndex:
        """Open the index of `vectors` that `fills` wrote with this prefix.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        description = json.loads((directory / f"{prefix}index.json").read_text())
        return cls(vectors, description["metric"])
