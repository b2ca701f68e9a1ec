"""Which rows are for training, validation and testing.

| written | meaning |
|---|---|
| `random` | rows by chance, the same for the same seed |
| `time:COLUMN` | the last rows of all are for testing, those before them for validation |
| `group:COLUMN` | all rows with the same value are in the same split |
| `leave-last-out:COLUMN` | the last row of each `in0` is for testing, the one before it for validation |
| `none` | all rows are for training |
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Float64, Int64
from object2vec.data.channels import PAIR_CHANNELS
from object2vec.errors import RawValueError, UserError
from object2vec.prepare.rows import Rows, RowStore, UInt64, fraction, mix
from object2vec.schema.arrays import column_codes
from object2vec.schema.columns import Token

if TYPE_CHECKING:
    import pyarrow as pa

Splits = npt.NDArray[np.int8]
TRAIN, VALIDATION, TEST = range(len(PAIR_CHANNELS))
#: The kinds of splits, and whether they need a column.
KINDS: Final = {"random": False, "time": True, "group": True, "leave-last-out": True, "none": False}
#: Rows that decide at which times to split. Of more rows, this many by chance decide.
TIME_SAMPLE_ROWS: Final = 2**22


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How to split rows: `validation` and `test` are shares of all rows or groups."""

    kind: str = "random"
    column: str = ""
    validation: float = 0.1
    test: float = 0.1


def parse_split(text: str, validation: float = 0.1, test: float = 0.1) -> Split:
    """Parse a written split.

    Raises:
        UserError: there is no such split, its column is missing, or the shares leave nothing for training.
    """
    kind, _, column = text.partition(":")
    if kind not in KINDS or bool(column) is not KINDS[kind]:
        kinds = ", ".join(f"{name}:COLUMN" if needs else name for name, needs in KINDS.items())
        raise UserError(f"split {text!r}: wanted one of {kinds}")
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise UserError(f"shares of {validation:g} and {test:g} for validation and test, wanted less than 1 together")
    return Split(kind=kind, column=column, validation=validation, test=test)


def measures(split: Split, table: Any, keys: UInt64, seed: int) -> Float64:
    """Return the number of each row that decides its split: a hash, or a time.

    Raises:
        RawValueError: the column has values that are not times.
    """
    if split.kind == "random":
        return fraction(mix(keys))
    if split.kind == "group":
        return _group_hashes(split.column, table[split.column], len(keys), seed)
    if split.kind == "none":
        return np.zeros(len(keys))
    return time_values(split.column, table[split.column])


def _group_hashes(name: str, column: pa.Array, count: int, seed: int) -> Float64:
    """Return a hash of each group. Rows without a group are in one together."""
    found = column_codes(Token(name), column)
    digests = [hashlib.blake2b(f"{seed} {text}".encode(), digest_size=8).digest() for text in found.texts.to_pylist()]
    hashes = np.zeros(count, np.uint64)
    hashes[found.lengths > 0] = np.array([int.from_bytes(digest, "little") for digest in digests], np.uint64)[
        found.codes
    ]
    return fraction(hashes)


def time_values(name: str, column: pa.Array) -> Float64:
    """Return times as numbers: numbers, dates, or text of either. Rows without a time are before all others.

    Raises:
        RawValueError: a value is neither a number nor a date.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as types

    if types.is_string(column.type) or types.is_large_string(column.type):
        column = pc.if_else(pc.equal(column, ""), None, column)
        for type_ in (pa.float64(), pa.timestamp("us")):
            try:
                column = column.cast(type_)
                break
            except pa.ArrowInvalid as error:
                reason = str(error).partition("\n")[0]
        else:
            raise RawValueError(f"{name} holds a value that is not a time ({reason}), wanted numbers or dates")
    if types.is_temporal(column.type):
        column = column.cast(pa.timestamp("us")).cast(pa.int64())
    try:
        numbers = column.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise RawValueError(f"{name} is of the type {column.type}, wanted numbers or dates") from error
    times: Float64 = numbers.fill_null(-np.inf).to_numpy(zero_copy_only=False)
    return np.where(np.isnan(times), -np.inf, times)


class Splitter:
    """Assigns rows to splits. It observes all rows in their order first."""

    def __init__(self, split: Split) -> None:
        self.split = split
        self._last = LastRows() if split.kind == "leave-last-out" else None
        self._bounds = np.array([1 - split.validation - split.test, 1 - split.test])
        if split.kind == "none":
            self._bounds[:] = np.inf

    def observe(self, rows: Rows) -> None:
        """Take note of a batch of rows, which follow those of earlier batches."""
        if self._last:
            self._last.observe(rows)

    def finish(self, store: RowStore) -> None:
        """Decide at which times to split, when all rows are stored."""
        if self.split.kind == "time":
            times: list[Float64] = []
            for chunk in store.chunks():
                times.append(chunk.read().measures)
                if sum(map(len, times)) > TIME_SAMPLE_ROWS:
                    break
            found = np.sort(np.concatenate(times)) if times else np.zeros(1)
            self._bounds = np.append(found, np.inf)[np.ceil(self._bounds * len(found)).astype(np.int64)]

    def assign(self, rows: Rows) -> Splits:
        """Return the split of each row: 0 for training, 1 for validation, 2 for testing."""
        if self._last:
            return self._last.assign(rows, validation=self.split.validation > 0)
        return np.searchsorted(self._bounds, rows.measures, side="right").astype(np.int8)


class LastRows:
    """The last two rows of each `in0` by time. Of rows of the same time, the later one in the table is the last."""

    def __init__(self) -> None:
        self._counts = np.zeros(0, np.int64)
        self._times = np.empty((0, 2))
        self._keys = np.empty((0, 2), np.uint64)

    def observe(self, rows: Rows) -> None:
        """Take note of a batch of rows, which follow those of earlier batches."""
        groups = _first_tokens(rows)
        self._grow(int(groups.max(initial=-1)) + 1)
        np.add.at(self._counts, groups, 1)
        order = np.lexsort((rows.measures, groups))
        is_end = np.append(np.diff(groups[order]) != 0, True)[: len(order)]
        is_before_end = np.append(is_end[1:], False) & ~is_end
        self._insert(groups, rows, order[is_before_end])
        self._insert(groups, rows, order[is_end])

    def _grow(self, size: int) -> None:
        more = max(size, 2 * len(self._counts)) - len(self._counts) if size > len(self._counts) else 0
        self._counts = np.append(self._counts, np.zeros(more, np.int64))
        self._times = np.concatenate([self._times, np.full((more, 2), -np.inf)])
        self._keys = np.concatenate([self._keys, np.zeros((more, 2), np.uint64)])

    def _insert(self, groups: Int64, rows: Rows, index: Int64) -> None:
        """Insert one row of each group: as its last one, as the one before it, or not at all."""
        own, times, keys = groups[index], rows.measures[index], rows.keys[index]
        is_last = times >= self._times[own, 0]
        is_second = ~is_last & (times >= self._times[own, 1])
        for kept in (self._times, self._keys):
            kept[own[is_last], 1] = kept[own[is_last], 0]
        for place, chosen in ((0, is_last), (1, is_second)):
            self._times[own[chosen], place] = times[chosen]
            self._keys[own[chosen], place] = keys[chosen]

    def assign(self, rows: Rows, *, validation: bool) -> Splits:
        """Return the split of each row. An `in0` keeps at least one row for training."""
        groups = _first_tokens(rows)
        counts, last = self._counts[groups], self._keys[groups]
        splits = np.full(len(rows), TRAIN, np.int8)
        splits[(counts > 2) & (rows.keys == last[:, 1]) & validation] = VALIDATION
        splits[(counts > 1) & (rows.keys == last[:, 0])] = TEST
        return splits


def _first_tokens(rows: Rows) -> Int64:
    """Return the first token of each `in0`, which is the value of its first column."""
    first = rows.sides[0]
    return first.values[first.offsets[:-1]].astype(np.int64)
