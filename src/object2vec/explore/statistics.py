"""What the page says of a model's vectors: names of clusters, agreement of neighbors, hubs and duplicates.

Shapes: N objects, S sampled rows, K neighbors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log
from typing import Any, Final

import numpy as np

from object2vec.array_types import Float32, Int64
from object2vec.explore.columns import MapColumn

#: Neighbors whose columns are compared with those of their object.
AGREEMENT_K: Final = 5
#: Cosine from which an object and its nearest are duplicates.
DUPLICATE: Final = 0.9999
BINS: Final = 30
HUBS: Final = 10
#: Values that name a cluster are in this share of its objects.
MIN_SHARE: Final = 0.15
NAMING_VALUES: Final = 2


def statistics(
    vectors: Float32, columns: Sequence[MapColumn], rows: Int64, neighbors: Int64, scores: Float32
) -> dict[str, Any]:
    """Return figures of vectors (N, D) and the neighbors (S, K) of sampled rows (S,), with their cosines (S, K)."""
    found = neighbors[neighbors >= 0]
    counts = np.bincount(found, minlength=len(vectors))
    hubs = [row for row in np.argsort(-counts, kind="stable")[:HUBS].tolist() if counts[row]]
    return {
        "sampled": len(rows),
        "norms": histogram(np.linalg.norm(vectors, axis=1)),
        "similarity": histogram(scores[neighbors >= 0]),
        "hubs": [{"object": row, "neighbor_of": int(counts[row])} for row in hubs],
        "duplicates": int((scores[:, :1] >= DUPLICATE).sum()),
        "agreement": [
            agreement(column, rows, neighbors, whole=whole)
            for column in columns
            if column.kind in ("category", "list")
            for whole in (False, True)[: 1 + (column.kind == "list")]
        ],
    }


def histogram(values: Float32) -> dict[str, list[float]]:
    """Return the edges and the counts of equal bins."""
    if not len(values):
        return {"edges": [], "counts": []}
    counts, edges = np.histogram(values.astype(np.float64), BINS)
    return {"edges": [round(edge, 6) for edge in edges.tolist()], "counts": counts.tolist()}


def agreement(column: MapColumn, rows: Int64, neighbors: Int64, *, whole: bool) -> dict[str, Any]:
    """Return the share of neighbors with a value of their object in a column, and the share in pairs by chance.

    With `whole`, all values are the same. Objects without a value are left out.
    """
    sets = column.sets()
    others = np.random.default_rng(0).integers(len(sets), size=(len(rows), AGREEMENT_K)).tolist()

    def share(of: Sequence[Sequence[int]]) -> float | None:
        pairs = [
            sets[row] == sets[near] if whole else bool(sets[row] & sets[near])
            for row, found in zip(rows.tolist(), of, strict=True)
            for near in found[:AGREEMENT_K]
            if near >= 0 and near != row and sets[row] and sets[near]
        ]
        return round(sum(pairs) / len(pairs), 4) if pairs else None

    name = f"all {column.name}" if whole else column.name
    return {"column": name, "share": share(neighbors.tolist()), "chance": share(others)}


def name_clusters(clusters: Int64, columns: Sequence[MapColumn]) -> list[dict[str, Any]]:
    """Return the name and the count of each cluster: its most over-represented values, and its range of a number."""
    labels = [(column, column.sets()) for column in columns if column.kind in ("category", "list")]
    totals = [Counter(value for values in sets for value in values) for _, sets in labels]
    numbers = [column for column in columns if column.kind == "number" and column.name.lower() == "year"]
    found = []
    for number in range(int(clusters.max(initial=-1)) + 1):
        rows = np.flatnonzero(clusters == number).tolist()
        scored = []
        for (column, sets), total in zip(labels, totals, strict=True):
            for value, count in Counter(value for row in rows for value in sets[row]).items():
                share, lift = count / len(rows), count / len(rows) / (total[value] / len(clusters))
                if share >= MIN_SHARE and lift > 1:
                    scored.append((-share * log(lift), value, column.name))
        best = sorted(scored)[:NAMING_VALUES]
        parts = [value for _, value, _ in best] + [text for text in (_range(each, rows) for each in numbers) if text]
        name = ", ".join(parts) or f"Cluster {number + 1}"
        found.append({"name": name, "count": len(rows), "columns": sorted({column for *_, column in best})})
    return found


def _range(column: MapColumn, rows: Sequence[int]) -> str:
    """Return the middle half of a cluster's numbers, if it is at most half as wide as that of all objects."""
    everything = np.array([value for value in column.values if value is not None], np.float64)
    own = np.array([column.values[row] for row in rows if column.values[row] is not None], np.float64)
    if not len(own):
        return ""
    (low, high), (least, most) = (np.percentile(each, (25, 75)) for each in (own, everything))
    return f"{low:.0f}\N{EN DASH}{high:.0f}" if high - low <= (most - least) / 2 else ""
