"""Rows of pairs in an order that depends on the seed and the number of each row only.

A row's key is a hash of the seed and its number, so no two rows have the same. Rows are stored by the first bits of
their keys, in temporary files, and sorted when they are read back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Float32, Float64, Int32, Int64
from object2vec.data.disk_arrays import AppendOnlyArray, advise_reads
from object2vec.data.sequences import Sequences

UInt64 = npt.NDArray[np.uint64]
#: Parts of the range of keys, and about how many bytes of rows are read back at a time.
PARTS: Final = 256
CHUNK_BYTES: Final = 2**22
#: Bytes of a row without its tokens, and of a token.
ROW_BYTES: Final = 28
TOKEN_BYTES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """N rows of pairs: `keys`, `labels`, `measures`, which decide the split, and `weights` are (N,).

    `classes` are those of each row, where it can have several; `labels` are then their numbers.
    """

    keys: UInt64
    labels: Float32
    measures: Float64
    sides: tuple[Sequences, Sequences]
    weights: Float32 | None = None
    classes: Sequences | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, index: Int64) -> Rows:
        """Return the rows at `index`."""
        first, second, *classes = (
            Sequences(each.values[index], np.arange(len(index) + 1)) if each.single else each.take(index)
            for each in self.sequences
        )
        columns = {name: None if values is None else values[index] for name, values in self.columns.items()}
        return Rows(**columns, sides=(first, second), classes=classes[0] if classes else None)  # type: ignore[arg-type]

    @property
    def sequences(self) -> list[Sequences]:
        """Return both sides, and the classes if there are."""
        return [*self.sides, *([] if self.classes is None else [self.classes])]

    @property
    def columns(self) -> dict[str, npt.NDArray[Any] | None]:
        """Return the columns that have a value per row."""
        return {"keys": self.keys, "labels": self.labels, "measures": self.measures, "weights": self.weights}


def count_rows(batch: Mapping[str, Any]) -> int:
    """Return the number of rows of a batch, which has the values of each column."""
    return len(next(iter(batch.values())))


def row_keys(seed: int, first: int, count: int) -> UInt64:
    """Return the keys of `count` rows from the number `first` on."""
    start = mix(np.array([seed], np.uint64))[0]
    return mix(np.arange(first, first + count, dtype=np.uint64) + start)


def mix(values: UInt64) -> UInt64:
    """Return a hash of 64-bit numbers; different numbers have different hashes (splitmix64)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def fraction(keys: UInt64) -> Float64:
    """Return hashes as numbers from 0 up to 1."""
    return (keys >> np.uint64(11)).astype(np.float64) / 2**53


def positions(sequences: Sequences) -> Int64:
    """Return the position of each token in its sequence, (tokens,)."""
    starts = np.repeat(sequences.offsets[:-1], sequences.lengths)
    return np.subtract(np.arange(len(starts)), starts, out=starts)


class RowStore:
    """Rows on disk. `append` adds a batch; `chunks` then reads all rows in the order of their keys."""

    def __init__(self) -> None:
        types = {"keys": np.uint64, "labels": np.float32, "measures": np.float64, "weights": np.float32}
        types |= {f"{part}{which}": np.int32 for which in range(3) for part in ("lengths", "values")}
        self._columns = {name: AppendOnlyArray(dtype) for name, dtype in types.items()}
        #: For each batch, where each part begins and the last one ends: rows, and values of `Rows.sequences`.
        self._starts: list[tuple[Int64, ...]] = []

    def __len__(self) -> int:
        return len(self._columns["keys"])

    def append(self, rows: Rows) -> None:
        """Add a batch of rows."""
        parts = (rows.keys >> np.uint64(56)).astype(np.uint8)
        rows = rows.take(np.argsort(parts, kind="stable"))
        starts = np.append(0, np.cumsum(np.bincount(parts, minlength=PARTS)))
        values = [len(self._columns[f"values{n}"]) + each.offsets[starts] for n, each in enumerate(rows.sequences)]
        self._starts.append((len(self) + starts, *values))
        for name, column in rows.columns.items():
            if column is not None:
                self._columns[name].append(column)
        for which, sequences in enumerate(rows.sequences):
            self._columns[f"lengths{which}"].append(sequences.lengths)
            self._columns[f"values{which}"].append(sequences.values)

    def batches(self) -> Iterator[Rows]:
        """Yield all rows as they were appended, which is the fastest way to read them."""
        columns = {name: column.as_array() for name, column in self._columns.items()}
        for starts in self._starts:
            yield Chunk(columns, [starts], 0, PARTS).read()

    def chunks(self) -> Iterator[Chunk]:
        """Yield parts of all rows, in the order of keys."""
        columns = {name: column.as_array() for name, column in self._columns.items()}
        sizes = np.zeros(PARTS, np.int64)
        for rows, *values in self._starts:
            sizes += ROW_BYTES * np.diff(rows) + TOKEN_BYTES * sum(map(np.diff, values))
        first = 0
        for part in range(PARTS):
            if part + 1 == PARTS or sizes[first : part + 2].sum() > CHUNK_BYTES:
                yield Chunk(columns, self._starts, first, part + 1)
                first = part + 1

    def close(self) -> None:
        for column in self._columns.values():
            column.close()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of all rows that has not been read yet."""

    columns: dict[str, npt.NDArray[Any]]
    starts: Sequence[tuple[Int64, ...]]
    first: int
    stop: int

    def read_sorted(self) -> Rows:
        """Return the rows in the order of their keys."""
        rows = self.read()
        return rows.take(np.argsort(rows.keys))

    def read(self) -> Rows:
        """Return the rows in any order."""
        rows, *values = (
            [slice(int(batch[which][self.first]), int(batch[which][self.stop])) for batch in self.starts]
            for which in range(len(self.starts[0]))
        )
        parts = []
        for which, own in enumerate(values):
            lengths = self._gather(f"lengths{which}", rows)
            ids: Int32 = self._gather(f"values{which}", own)
            parts.append(Sequences.from_lengths(ids, lengths))
        names = [name for name in ("keys", "labels", "measures", "weights") if len(self.columns[name])]
        return Rows(
            **{name: self._gather(name, rows) for name in names}, sides=(parts[0], parts[1]), classes=[*parts, None][2]
        )

    def _gather(self, name: str, parts: Sequence[slice]) -> npt.NDArray[Any]:
        # The system would read much more around each part, and has no memory to keep it.
        advise_reads(self.columns[name], [(part.start, part.stop) for part in parts])
        return np.concatenate([self.columns[name][part] for part in parts])
