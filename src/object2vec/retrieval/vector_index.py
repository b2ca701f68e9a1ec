"""The nearest of N vectors, by cosine or inner product.

Shapes: N vectors, D dimensions, Q queries.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from object2vec.array_types import Bools, Float32, Int64
from object2vec.data.files import read_object
from object2vec.errors import ArtifactError
from object2vec.retrieval.exact import Vectors, search_all, search_subset

Metric = Literal["cosine", "dot"]
METRICS: Final[tuple[Metric, ...]] = ("cosine", "dot")
#: Of the allowed rows, this share or less is copied and searched, instead of all.
FEW_ALLOWED: Final = 0.25


class VectorIndex:
    """The k nearest of N vectors (N, D). Search is exact up to `EXACT_UP_TO` vectors, approximate for more."""

    def __init__(self, vectors: Vectors, description: Mapping[str, Any]) -> None:
        self._vectors = vectors
        #: How the index searches, in JSON values: its kind, and measured recall if it is approximate.
        self.description = description

    @classmethod
    def build(cls, vectors: Float32, metric: Metric, *, seed: int = 0) -> VectorIndex:
        """Return an index of `vectors`, which are not copied; they can be memory-mapped."""
        del seed
        return cls(Vectors(vectors, cosine=metric == "cosine"), {"kind": "exact", "metric": metric})

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
        prepared = self._vectors.prepare(queries)
        if allowed is not None and np.count_nonzero(allowed) <= FEW_ALLOWED * len(allowed):
            return search_subset(self._vectors, prepared, k, np.flatnonzero(allowed), excluded)
        return search_all(self._vectors, prepared, k, allowed=allowed, excluded=excluded)

    def fills(self, prefix: str) -> dict[str, Callable[[Path], object]]:
        """Return the names of the index's files, each with a function that writes it; the vectors are not written."""

        def write_norms(path: Path) -> None:
            with path.open("wb") as file:
                np.save(file, self._vectors.norms.numpy())

        return {
            f"{prefix}norms.npy": write_norms,
            f"{prefix}json": lambda path: path.write_text(json.dumps(dict(self.description), indent=2) + "\n"),
        }

    @classmethod
    def open(cls, directory: Path, prefix: str, vectors: Float32) -> VectorIndex:
        """Open the index of `vectors` that `fills` wrote with this prefix.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        path = directory / f"{prefix}json"
        description = read_object(path, "wanted the description of an index", ArtifactError)
        if description.get("metric") not in METRICS:
            raise ArtifactError(f"{path}: metric is {description.get('metric')!r}, wanted one of {', '.join(METRICS)}")
        norms = open_array(directory / f"{prefix}norms.npy", (len(vectors),))
        return cls(Vectors(vectors, cosine=description["metric"] == "cosine", norms=norms), description)


def open_array(path: Path, shape: tuple[int, ...]) -> Float32:
    """Memory-map a file of float32.

    Raises:
        ArtifactError: it is missing, damaged or of another shape.
    """
    try:
        array: Float32 = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: missing or damaged ({error})") from error
    if array.shape != shape or array.dtype != np.float32:
        raise ArtifactError(f"{path}: {array.shape} of {array.dtype}, wanted {shape} of float32")
    return array
