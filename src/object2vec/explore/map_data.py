"""The map of a side: what the page reads, as metadata in JSON values and arrays in bytes.

Shapes: N objects, D dimensions, K neighbors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from object2vec.archive import extracted
from object2vec.array_types import Float32, Int64
from object2vec.data.records import SIDES, Side
from object2vec.errors import UserError
from object2vec.explore.columns import read_columns, title_column, to_lines
from object2vec.explore.projection import clusters_of, judge, pca, sample_rows, unit_vectors
from object2vec.explore.statistics import name_clusters, statistics
from object2vec.retrieval.collect import collect_objects
from object2vec.retrieval.object_index import ObjectIndex, indexed_sides

if TYPE_CHECKING:
    from object2vec.schema.schema import Schema

NEIGHBORS: Final = 15
#: Objects whose neighbors are searched at a time.
CHUNK_OBJECTS: Final = 4096


@dataclass(frozen=True)
class MapData:
    """The map of N objects: `metadata` without its `live`, and arrays by name."""

    index: ObjectIndex
    metadata: Mapping[str, Any]
    arrays: Mapping[str, bytes]

    def to_json(self, *, live: bool) -> str:
        """Return the metadata; no text in it can end a script element."""
        text = json.dumps(dict(self.metadata) | {"live": live}, ensure_ascii=False, separators=(",", ":"))
        return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")

    def points(self, name: str) -> Float32:
        """Return the points (N, 2) of a projection."""
        return np.frombuffer(self.arrays[f"projection-{name}"], "<f4").reshape(-1, 2)

    @property
    def clusters(self) -> Int64:
        """Return the cluster (N,) of each object."""
        return np.frombuffer(self.arrays["cluster"], "<i2").astype(np.int64)

    @cached_property
    def exported_arrays(self) -> dict[str, bytes]:
        """Return all arrays, with the neighbors of all objects."""
        parts = [
            nearest(self.index, np.arange(start, min(start + CHUNK_OBJECTS, len(self.index.objects))))
            for start in range(0, len(self.index.objects), CHUNK_OBJECTS)
        ]
        rows, scores = (np.concatenate(each) for each in zip(*parts, strict=True))
        none = np.uint32(2**32 - 1)
        found = {"neighbors": np.where(rows >= 0, rows, none).astype("<u4").tobytes()}
        return {**self.arrays, **found, "distances": distances(scores).astype("<f4").tobytes()}


def open_index(model: Any, side: Side | None, table: Any) -> ObjectIndex:
    """Return the objects of a side with their vectors: of a table, else of the model's index, else of its vocabulary.

    Raises:
        UserError: the table cannot be read, or the model has no list of its objects.
    """
    if table is None:
        with extracted(model.predictor.directory) as found:
            indexed = [each for each in indexed_sides(found) if side in (None, each)]
            if indexed:
                return ObjectIndex.open(found, indexed[-1], model.network, model.schema)
    objects = collect_objects(table, model.schema, model.hyperparameters, side)[-1]
    return ObjectIndex.build(objects, model.predictor.encode_sequences, model.network)


def nearest(index: ObjectIndex, rows: Int64) -> tuple[Int64, Float32]:
    """Return the nearest objects (rows, K) of some objects, and their cosines; -1 for none."""
    return index.neighbors.search(index.vectors[rows], NEIGHBORS, excluded=list(rows[:, None]))


def evaluate_projection(index: ObjectIndex, points: Float32, clusters: Int64) -> dict[str, float]:
    """Return how well points (N, 2) keep the neighbors and the clusters of objects."""
    rows = sample_rows(len(points))
    return judge(points, clusters, rows, nearest(index, rows)[0])


def distances(scores: Float32) -> Float32:
    """Return cosine distances: 1 - cosine, in steps of a millionth; infinite for no neighbor."""
    return np.asarray(np.maximum(np.round(1 - scores, 6), 0), np.float32)


def build_map(model: Any, side: Side | None = None, table: Any = None, *, name: str = "model") -> MapData:
    """Return the map of the objects of a side.

    Raises:
        UserError: see `open_index`; or a vector is not finite.
    """
    index = open_index(model, side, table)
    vectors = np.asarray(index.vectors, np.float32)
    if not np.isfinite(vectors).all():
        raise UserError(f"an embedding of {index.side} is not a finite number, wanted a model that learned")
    columns, units = read_columns(index.objects), unit_vectors(vectors)
    points, clusters, rows = pca(units), clusters_of(units), sample_rows(len(vectors))
    neighbors, scores = nearest(index, rows)
    title = title_column(columns)
    metadata = {
        "version": 1,
        "model": name,
        "side": index.side,
        "sides": _sides(model.schema),
        "count": len(vectors),
        "projections": [{"name": "pca", "label": "PCA", **judge(points, clusters, rows, neighbors)}],
        "pending": None,
        "columns": [{"name": each.name, "kind": each.kind, **each.description} for each in columns],
        "title_column": title.name,
        "clusters": name_clusters(clusters, columns),
        "statistics": statistics(vectors, columns, rows, neighbors, scores),
        "training": {"metrics": finite(model.history)},
        "fields": _fields(model.schema),
    }
    arrays = {
        "projection-pca": points.astype("<f4").tobytes(),
        "titles": to_lines(title.values),
        "count": _counts(index).astype("<u4").tobytes(),
        "cluster": clusters.astype("<i2").tobytes(),
    }
    for number, column in enumerate(columns):
        arrays |= {f"column-{number}{suffix}": array for suffix, array in column.arrays.items()}
    return MapData(index, metadata, arrays)


def _counts(index: ObjectIndex) -> Int64:
    """Return how often each object was in training, (N,); ones, for objects that are not one known value."""
    objects, count = index.objects, len(index.objects)
    own = objects.schema[index.side] if objects.schema else None
    sequences = objects.sequences(0, count) if own and len(own.columns) == 1 else None
    if own is None or sequences is None or not (sequences.lengths == 1).all():
        return np.ones(count, np.int64)
    rows = sequences.values.astype(np.int64) - own.vocabulary.first_id
    known = (rows >= 0) & (rows < len(own.vocabulary.counts))
    return np.where(known, np.minimum(own.vocabulary.counts[np.where(known, rows, 0)], 2**32 - 1), 1)


def finite(value: Any) -> Any:
    """Return JSON values with null in place of numbers that are not finite, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _sides(schema: Schema | None) -> list[Side]:
    return [side for side in SIDES if schema is None or schema[side].columns]


def _fields(schema: Schema | None) -> list[dict[str, str]]:
    """Return the raw values of each side that can be typed."""
    if schema is None:
        return []
    return [
        {"side": side, "column": column.name, "kind": column.kind} for side in SIDES for column in schema[side].columns
    ]
