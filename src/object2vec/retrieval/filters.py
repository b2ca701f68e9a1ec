"""Which objects of an index an answer may have: allowed ones, and those that a query has not seen."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from object2vec.array_types import Bools, Int64
from object2vec.data.files import local_path
from object2vec.data.jsonlines import read_channel
from object2vec.data.records import SIDES, Side
from object2vec.errors import UserError, located, shortened
from object2vec.hyperparameters import Hyperparameters
from object2vec.prepare.inputs import read_pairs
from object2vec.prepare.rows import UInt64
from object2vec.prepare.source import Limits, open_files
from object2vec.retrieval.objects import Objects, column_keys, sequence_keys
from object2vec.schema.schema import require_column
from object2vec.schema.tables import Columns, is_table, to_columns

logger = logging.getLogger(__name__)


class Seen:
    """Pairs of queries and objects that are not to be found for them: hashes of queries, and rows of objects."""

    def __init__(self, keys: UInt64, rows: Int64) -> None:
        order = np.argsort(keys[rows >= 0], kind="stable")
        self._keys = keys[rows >= 0][order]
        self._rows = rows[rows >= 0][order]

    def rows_of(self, keys: UInt64) -> list[Int64]:
        """Return the rows of the objects that each query has seen."""
        starts, ends = (np.searchsorted(self._keys, keys, side=side) for side in ("left", "right"))
        return [self._rows[start:end] for start, end in zip(starts, ends, strict=True)]


class Filter:
    """The objects that may be found: `mask` (N,) for all queries, None for all objects; `seen` by query, if given."""

    def __init__(
        self,
        objects: Objects,
        query_side: Side,
        hyperparameters: Hyperparameters,
        *,
        where: str | None = None,
        allowed: Any = None,
        exclude: Any = None,
    ) -> None:
        self._objects = objects
        self._query_side: Side = query_side
        self._hyperparameters = hyperparameters
        self.mask: Bools | None = None if where is None else objects.where(where).copy()
        self.seen: Seen | None = None
        if allowed is not None:
            with located(_place(allowed, "allowed")):
                self._keep(self._rows_of(allowed, "allowed"), keep=True)
        if exclude is not None:
            with located(_place(exclude, "exclude")):
                self._exclude(exclude)

    def _keep(self, rows: Int64, *, keep: bool) -> None:
        mask = np.full(len(self._objects), not keep)
        mask[rows[rows >= 0]] = keep
        self.mask = mask if self.mask is None else mask & self.mask

    def _exclude(self, given: Any) -> None:
        """Exclude pairs of a table from the answers of their query, and other objects from all answers."""
        schema, names = self._objects.schema, self._objects.key_names
        if not _is_data(given):
            self._keep(self._rows_of(given, "exclude"), keep=False)
        elif schema is None:
            pairs = read_pairs(given, self._hyperparameters, None)
            queries, found = (
                sequence_keys(pairs.sides[SIDES.index(s)]) for s in (self._query_side, self._objects.side)
            )
            self.seen = Seen(queries, self._objects.find(found))
        elif self._query_side != self._objects.side and set(schema[self._query_side].names) <= set(_columns_of(given)):
            parts = [
                (column_keys(schema, self._query_side, columns), self._objects.find_columns(columns))
                for columns in _batches(given, [*schema[self._query_side].names, *names])
            ]
            keys, rows = (np.concatenate(part) for part in zip(*parts, strict=True))
            self.seen = Seen(keys, rows)
        else:
            self._keep(self._rows_of(given, "exclude"), keep=False)

    def _rows_of(self, given: Any, name: str) -> Int64:
        """Return the row of each object: of a table, its path, or a list."""
        objects = self._objects
        if not _is_data(given):
            if isinstance(given, bytes) or not isinstance(given, Iterable):
                raise UserError(f"{name} is {shortened(repr(given))}, wanted a list of objects, or a table")
            rows = objects.rows(list(given))
        elif objects.schema is None and isinstance(given, str | Path):
            pairs = read_channel(name, local_path(given, streamed=True), self._hyperparameters)
            rows = objects.find(sequence_keys(pairs.sides[SIDES.index(objects.side)]))
        else:
            rows = np.concatenate([objects.find_columns(columns) for columns in _batches(given, objects.key_names)])
        if missing := int(np.count_nonzero(rows < 0)):
            logger.warning(f"{missing:,} of {len(rows):,} objects of {name} are not in the index")
        return rows


def _place(given: Any, name: str) -> str:
    """Return the name of a given table in a message: its path, or else the argument."""
    return str(given) if isinstance(given, str | Path) else name


def _is_data(given: Any) -> bool:
    return isinstance(given, str | Path) or is_table(given)


def _columns_of(given: Any) -> Sequence[str]:
    if isinstance(given, str | Path):
        return open_files([str(given)], Limits.of_machine()).columns
    return list(to_columns(given))


def _batches(given: Any, names: Sequence[str]) -> Iterator[Columns]:
    """Yield batches of the columns of a table or its path.

    Raises:
        RawValueError: there is no such column.
    """
    if isinstance(given, str | Path):
        yield from open_files([str(given)], Limits.of_machine()).batches(list(dict.fromkeys(names)))
    else:
        columns = to_columns(given)
        yield {name: require_column(columns, name) for name in names}
