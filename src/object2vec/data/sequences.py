"""Sequences of token ids, and pairs of them, stored as flat arrays."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Float32, Int32, Int64
from object2vec.data.disk_arrays import AppendOnlyArray, advise_reads, empty
from object2vec.ops import sequences as sequences_ops


@dataclass(frozen=True, slots=True)
class Sequences:
    """N sequences of token ids.

    Sequence i is `values[offsets[i]:offsets[i + 1]]`; `values` is (tokens,), `offsets` is (N + 1,) and starts with 0.
    """

    values: Int32
    offsets: Int64

    @classmethod
    def from_lists(cls, lists: Iterable[Sequence[int]]) -> Sequences:
        """Create sequences from Python lists; ids must fit 32 bits."""
        lists = list(lists)
        offsets = np.fromiter(accumulate(map(len, lists), initial=0), np.int64, len(lists) + 1)
        return cls(np.fromiter(chain.from_iterable(lists), np.int32, int(offsets[-1])), offsets)

    @classmethod
    def from_lengths(cls, values: Int32, lengths: Int64) -> Sequences:
        """Create sequences from all values and the length of each sequence, (N,)."""
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return cls(values, offsets)

    @classmethod
    def from_ids(cls, ids: npt.NDArray[np.integer[Any]]) -> Sequences:
        """Create sequences of one token each from ids (N,)."""
        return cls(ids.astype(np.int32), np.arange(len(ids) + 1))

    @classmethod
    def concatenate(cls, parts: Sequence[Sequences]) -> Sequences:
        """Concatenate sequences."""
        starts = accumulate((len(part.values) for part in parts[:-1]), initial=0)
        offsets = [part.offsets[1:] + start for part, start in zip(parts, starts, strict=True)]
        return cls(np.concatenate([part.values for part in parts]), np.concatenate([[0], *offsets]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int64:
        """Return the length of each sequence, (N,)."""
        return self.offsets[1:] - self.offsets[:-1]

    def lengths_of(self, index: Int64) -> Int64:
        """Return the lengths of the sequences at `index`."""
        return self.offsets[index + 1] - self.offsets[index]

    @property
    def max_length(self) -> int:
        """Return the length of the longest sequence, 0 if there is none."""
        return max((int(part.lengths.max()) for part in self._parts()), default=0)

    @property
    def single(self) -> bool:
        """Return whether each sequence is one token other than 0."""
        return len(self.values) == len(self) and all(
            (part.lengths == 1).all() and part.values.all() for part in self._parts()
        )

    @property
    def without_tokens(self) -> int:
        """Count the sequences that are empty or have only id 0, which means no token."""
        count = 0
        for part in self._parts():
            seen = np.concatenate([[0], np.cumsum(part.values != 0)])
            count += int(np.sum(seen[part.offsets[1:]] == seen[part.offsets[:-1]]))
        return count

    def _parts(self, size: int = 2**16) -> Iterator[Sequences]:
        """Yield slices of `size` sequences, to limit temporary memory."""
        for start in range(0, len(self), size):
            yield self.slice(start, start + size)

    def slice(self, start: int, stop: int) -> Sequences:
        """Return the sequences from `start` up to, but not including, `stop`."""
        offsets = self.offsets[start : stop + 1]
        return Sequences(self.values[offsets[0] : offsets[-1]], offsets - offsets[0])

    def advise_reads(self, runs: Sequence[tuple[int, int]]) -> None:
        """Advise the system that only these runs of sequences, (start, stop) each, will be read soon."""
        advise_reads(self.offsets, [(start, stop + 1) for start, stop in runs])
        advise_reads(self.values, [(int(self.offsets[start]), int(self.offsets[stop])) for start, stop in runs])

    def take(self, index: Int32 | Int64) -> Sequences:
        """Return the sequences at `index`, in its order and with repetitions."""
        return Sequences(*sequences_ops.take_sequences(self.values, self.offsets, index.astype(np.int64)))

    def within_max_len(self, max_len: int) -> npt.NDArray[np.bool_]:
        """Return which values are among the first `max_len` of their sequence, (tokens,)."""
        starts, ends = self.offsets[:-1], self.offsets[1:]
        steps = np.zeros(len(self.values) + 1, np.int8)  # a byte a token: there may be millions
        np.add.at(steps, starts, 1)
        np.subtract.at(steps, np.minimum(starts + max_len, ends), 1)
        return np.cumsum(steps, dtype=np.int8, out=steps)[:-1].view(np.bool_)

    def truncate(self, max_len: int) -> Sequences:
        """Return the first `max_len` tokens of each sequence."""
        if len(self.values) <= max_len or self.lengths.max() <= max_len:
            return self
        offsets = np.concatenate([[0], np.cumsum(np.minimum(self.lengths, max_len))])
        return Sequences(self.values[self.within_max_len(max_len)], offsets)

    def unique(self) -> tuple[Int32, Int32]:
        """Return the first index of each unique sequence, and the number of each sequence's unique one, (N,)."""
        if len(self) == 1:
            return np.zeros(1, np.int32), np.zeros(1, np.int32)
        inverse: Int32 = empty(len(self), np.int32)
        first_index: Int32 = empty(len(self), np.int32)
        found = sequences_ops.unique_sequences(self.values, self.offsets, inverse, first_index)
        return first_index[:found], inverse


@dataclass(frozen=True, slots=True)
class Pairs:
    """N pairs: `in0` and `in1` are N sequences each; `labels` (N,) are classes or real numbers.

    `weights` (N,) multiply the loss of each pair; None is 1 for all. Where a pair can have several classes, `classes`
    has them, and `labels` has their number.
    """

    in0: Sequences
    in1: Sequences
    labels: Float32
    weights: Float32 | None = None
    classes: Sequences | None = None

    @classmethod
    def concatenate(cls, parts: Sequence[Pairs]) -> Pairs:
        """Concatenate pairs; there is at least one part."""
        first, second = (Sequences.concatenate([part.sides[side] for part in parts]) for side in (0, 1))
        weights = None
        if any(part.weights is not None for part in parts):
            weights = np.concatenate([np.ones(len(p), np.float32) if p.weights is None else p.weights for p in parts])
        sets = [part.classes for part in parts if part.classes is not None]
        classes = Sequences.concatenate(sets) if len(sets) == len(parts) else None
        return cls(first, second, np.concatenate([part.labels for part in parts]), weights, classes)

    def take(self, index: Int64) -> Pairs:
        """Return the pairs at `index`."""
        weights = None if self.weights is None else self.weights[index]
        classes = None if self.classes is None else self.classes.take(index)
        return Pairs(self.in0.take(index), self.in1.take(index), self.labels[index], weights, classes)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """Return the bytes of all columns."""
        return sum(column.nbytes for column in self._columns)

    @property
    def sides(self) -> tuple[Sequences, Sequences]:
        return self.in0, self.in1

    @property
    def _columns(self) -> list[npt.NDArray[Any]]:
        sequences = [*self.sides, *([] if self.classes is None else [self.classes])]
        columns = [part for each in sequences for part in (each.values, each.offsets)]
        return [*columns, self.labels, *([] if self.weights is None else [self.weights])]

    @property
    def checksum(self) -> int:
        """Return the CRC-32 of all columns, in order."""
        value = 0
        for column in self._columns:
            value = zlib.crc32(column.data, value)
        return value


def find_known_positives(objects: tuple[Sequences, Sequences], pairs: Pairs) -> tuple[Int32, Int32]:
    """Return the positive pairs (label at least 1) with both sides in `objects`, as numbers of these objects.

    `objects` are the unique sequences of each side. Pairs are processed in slices, to limit temporary memory.
    """
    columns = AppendOnlyArray(np.int32), AppendOnlyArray(np.int32)
    step = max(2**16, *map(len, objects))
    for start in range(0, len(pairs), step):
        positive = pairs.labels[start : start + step] >= 1
        parts = [side.slice(start, start + step) for side in pairs.sides]
        numbers = _index_in(objects[0], parts[0]), _index_in(objects[1], parts[1])
        both = positive & (numbers[0] >= 0) & (numbers[1] >= 0)
        for column, number in zip(columns, numbers, strict=True):
            column.append(number[both])
    found = columns[0].as_array(), columns[1].as_array()
    for column in columns:
        column.close()
    return found


def _index_in(objects: Sequences, sequences: Sequences) -> Int32:
    """Return the index of each sequence in the unique `objects`, -1 if it is missing."""
    first_index, inverse = Sequences.concatenate([objects, sequences]).unique()
    numbers = np.full(len(first_index), -1, np.int32)
    numbers[inverse[: len(objects)]] = np.arange(len(objects), dtype=np.int32)
    return numbers[inverse[len(objects) :]]
