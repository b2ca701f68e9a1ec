"""Find neighbors or recommendations of objects, and give them as lists of dicts or as a table.

Shapes: Q queries, k answers a query.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from object2vec.array_types import Float32, Int64
from object2vec.data.records import Side
from object2vec.errors import UserError, shortened
from object2vec.extras import import_extra
from object2vec.prepare.rows import UInt64
from object2vec.retrieval.filters import Filter
from object2vec.retrieval.object_index import ObjectIndex
from object2vec.retrieval.objects import RESULT_NAMES, TOKENS, column_keys, object_keys
from object2vec.schema.schema import Schema, require_column
from object2vec.schema.tables import is_table, to_columns

if TYPE_CHECKING:
    import pyarrow as pa

    from object2vec.retrieval.recommender import Recommender

#: Queries that are searched at a time.
CHUNK_QUERIES: Final = 4096
MAX_K: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """Q objects that answers are wanted for: a list of objects, or the columns of a table."""

    objects: Any
    columns: Mapping[str, Any]
    keys: UInt64

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The rows of the objects that were found for Q queries, and their scores: (Q, k) each; a row is -1 for none."""

    queries: Queries
    index: ObjectIndex
    rows: Int64
    scores: Float32

    @property
    def columns(self) -> list[str]:
        """Return the names of an answer's values, in the order of a text."""
        return ["score", *self.index.objects.answers([]).schema.names]

    def records(self) -> list[list[dict[str, Any]]]:
        """Return the columns and the score of the objects that were found for each query, the best first."""
        found = self.rows >= 0
        records = self.index.objects.records(self.rows[found])
        for record, score in zip(records, self.scores[found].tolist(), strict=True):
            record["score"] = score
        ends = np.cumsum(np.append(0, found.sum(axis=1))).tolist()
        return [records[start:stop] for start, stop in pairwise(ends)]

    def table(self) -> pa.Table:
        """Return a row for each object that was found: the columns of its query, its rank and score, and its columns.

        A column of the query gets the prefix `query_` if the name is taken.
        """
        pa = import_extra("pyarrow")
        query, place = np.nonzero(self.rows >= 0)
        objects = self.index.objects.answers(self.rows[query, place])
        taken = {*RESULT_NAMES, *objects.schema.names}
        columns = query_columns(self.queries, query, taken)
        columns |= {"rank": pa.array(place + 1), "score": pa.array(self.scores[query, place])}
        return pa.table(columns | dict(zip(objects.schema.names, objects.columns, strict=True)))


class Finder:
    """Finds the nearest objects of the same side, or the best ones of the other side if `side` is not the index's."""

    def __init__(
        self,
        index: ObjectIndex,
        side: Side,
        encode: Callable[[Any, Side], Float32],
        limits: Filter,
        k: int,
    ) -> None:
        if side != index.side and index.recommender is None:
            raise UserError(f"this model gives no recommendations: {index.refusal}")
        self.index = index
        self.side: Side = side
        self._encode = encode
        self._limits = limits
        self._k = min(checked_k(k), len(index.objects))

    def find(self, objects: Any) -> Answers:
        """Return the answers to a list of objects, or to a table of them."""
        queries = parse_queries(objects, self.index.objects.schema, self.side)
        keys, first, inverse = np.unique(queries.keys, return_index=True, return_inverse=True)
        vectors = self._encode(queries.objects, self.side)[first]
        starts = range(0, max(1, len(keys)), CHUNK_QUERIES)
        parts = [self._search(vectors[n : n + CHUNK_QUERIES], keys[n : n + CHUNK_QUERIES]) for n in starts]
        rows, scores = (np.concatenate(part)[inverse] for part in zip(*parts, strict=True))
        return Answers(queries=queries, index=self.index, rows=rows, scores=scores)

    def _search(self, vectors: Float32, keys: UInt64) -> tuple[Int64, Float32]:
        limits = self._limits
        if self.side == self.index.side:
            itself = self.index.objects.find(keys)[:, None]
            excluded: Sequence[Int64] | None = [row[row >= 0] for row in itself]
            return self.index.neighbors.search(vectors, self._k, allowed=limits.mask, excluded=excluded)
        excluded = limits.seen.rows_of(keys) if limits.seen else None
        recommender = cast("Recommender", self.index.recommender)
        return recommender.recommend(vectors, self._k, allowed=limits.mask, excluded=excluded)


def query_columns(queries: Queries, rows: Int64, taken: Container[str]) -> dict[str, pa.Array]:
    """Return the columns of the queries at `rows`; a column gets the prefix `query_` if its name is taken."""
    pa = import_extra("pyarrow")
    columns = {}
    for name, values in queries.columns.items():
        array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, from_pandas=True)
        columns[f"query_{name}" if name in taken else name] = array.take(pa.array(rows))
    return columns


def checked_k(k: Any) -> int:
    """Return how many to find for each query.

    Raises:
        UserError: it is not an integer in the range.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= MAX_K:
        raise UserError(f"k is {shortened(repr(k))}, wanted an integer from 1 to {MAX_K:,}")
    return int(k)


def is_single(objects: Any, schema: Schema | None) -> bool:
    """Return whether this is one object, and not several."""
    if schema is None and isinstance(objects, list | tuple):
        return bool(objects) and all(isinstance(token, int) for token in objects)
    return isinstance(objects, Mapping) or not (is_table(objects) or isinstance(objects, list | tuple | np.ndarray))


def parse_queries(objects: Any, schema: Schema | None, side: Side) -> Queries:
    """Return a list or a table of objects as queries.

    Raises:
        UserError: they are not objects of the side.
    """
    names = schema[side].names if schema else [TOKENS]
    if is_table(objects):
        given = to_columns(objects)
        columns = {name: require_column(given, name) for name in names}
        encoded = columns if schema else [list(map(int, tokens)) for tokens in columns[TOKENS]]
        return Queries(objects=encoded, columns=columns, keys=column_keys(schema, side, columns))
    objects = list(objects)
    keys = object_keys(schema, side, objects)
    lists = [isinstance(value, list | tuple | np.ndarray) for value in objects]
    if schema is None or any(lists):
        if not all(lists):
            raise UserError("some objects are raw values and some are lists of token ids, wanted all of one kind")
        return Queries(objects=objects, columns={TOKENS: objects}, keys=keys)
    values = schema[side].values_of(objects, lambda row: f"{side}[{row}]")
    return Queries(objects=objects, columns=dict(zip(names, values, strict=True)), keys=keys)
