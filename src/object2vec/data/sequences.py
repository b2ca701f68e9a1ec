"""Sequences of tokens, and pairs of them, as columns: two flat arrays however many sequences there are."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

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
    def of(cls, lists: Iterable[Sequence[int]]) -> Sequences:
        """Columns of Python lists; ids must fit 32 bits."""
        lists = list(lists)
        offsets = np.fromiter(accumulate(map(len, lists), initial=0), np.int64, len(lists) + 1)
        return cls(np.fromiter(chain.from_iterable(lists), np.int32, int(offsets[-1])), offsets)

    @classmethod
    def joined(cls, parts: Sequence[Sequences]) -> Sequences:
        """The sequences of all parts, one behind the other."""
        starts = accumulate((len(part.values) for part in parts[:-1]), initial=0)
        offsets = [part.offsets[1:] + start for part, start in zip(parts, starts, strict=True)]
        return cls(np.concatenate([part.values for part in parts]), np.concatenate([[0], *offsets]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int64:
        """Tokens of each sequence, (N,)."""
        return self.offsets[1:] - self.offsets[:-1]

    def lengths_of(self, index: Int64) -> Int64:
        """Tokens of the sequences that `index` names."""
        return self.offsets[index + 1] - self.offsets[index]

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence, 0 where there is none."""
        return max((int(part.lengths.max()) for part in self._parts()), default=0)

    @property
    def single(self) -> bool:
        """Whether each of the sequences is one token other than 0."""
        return len(self.values) == len(self) and all(
            (part.lengths == 1).all() and part.values.all() for part in self._parts()
        )

    @property
    def without_tokens(self) -> int:
        """How many of the sequences are empty or hold nothing but 0, which stands for no token."""
        count = 0
        for part in self._parts():
            seen = np.concatenate([[0], np.cumsum(part.values != 0)])
            count += int(np.sum(seen[part.offsets[1:]] == seen[part.offsets[:-1]]))
        return count

    def _parts(self, size: int = 2**16) -> Iterator[Sequences]:
        """The sequences, `size` at a time, so that what is made of them stays small."""
        for start in range(0, len(self), size):
            yield self.part(start, start + size)

    def part(self, start: int, stop: int) -> Sequences:
        """The sequences from `start` up to `stop`."""
        offsets = self.offsets[start : stop + 1]
        return Sequences(self.values[offsets[0] : offsets[-1]], offsets - offsets[0])

    def advise_reads(self, runs: Sequence[tuple[int, int]]) -> None:
        """Have the system read runs of sequences, (start, stop) each, and no others: they will soon be taken."""
        advise_reads(self.offsets, [(start, stop + 1) for start, stop in runs])
        advise_reads(self.values, [(int(self.offsets[start]), int(self.offsets[stop])) for start, stop in runs])

    def take(self, index: Int32 | Int64) -> Sequences:
        """The sequences that `index` names, in its order and as often as it names them."""
        index = index.astype(np.int64, copy=False)
        return Sequences(*sequences_ops.take(self.values, self.offsets, index))

    def among_first(self, most: int) -> npt.NDArray[np.bool_]:
        """Which of the values are among the first `most` of their sequence, (tokens,)."""
        return sequences_ops.within_max_len(self.offsets, most)

    def cut(self, most: int) -> Sequences:
        """The first `most` tokens of each sequence."""
        if len(self.values) <= most or self.lengths.max() <= most:
            return self
        return Sequences(*sequences_ops.truncate(self.values, self.offsets, most))

    def distinct(self) -> tuple[Int32, Int32]:
        """The different ones among the N sequences: where each stands first, and for each of the N which it is, (N,).

        Tokens are compared with tokens, so nothing depends on a hash.
        """
        if len(self) == 1:
            return np.zeros(1, np.int32), np.zeros(1, np.int32)
        which: Int32 = empty(len(self), np.int32)
        first: Int32 = empty(len(self), np.int32)
        found = sequences_ops.unique_sequences(self.values, self.offsets, which, first)
        return first[:found], which


@dataclass(frozen=True, slots=True)
class Pairs:
    """N pairs: `in0` and `in1` hold N sequences each, `labels` is (N,): a class, or a real number."""

    in0: Sequences
    in1: Sequences
    labels: Float32

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        return self.labels.nbytes + sum(side.values.nbytes + side.offsets.nbytes for side in self.sides)

    @property
    def sides(self) -> tuple[Sequences, Sequences]:
        return self.in0, self.in1

    @property
    def checksum(self) -> int:
        """The CRC-32 of all of it, in its order."""
        value = 0
        for column in (*(part for side in self.sides for part in (side.values, side.offsets)), self.labels):
            value = zlib.crc32(column.data, value)
        return value


def positives_among(objects: tuple[Sequences, Sequences], pairs: Pairs) -> tuple[Int32, Int32]:
    """Return the positive ones of `pairs` (label at least 1) whose sides are both among `objects`.

    `objects` are unique sequences of each side; a pair is given by their numbers. Pairs are read part by part, so that
    what is made of them stays small.
    """
    columns = AppendOnlyArray(np.int32), AppendOnlyArray(np.int32)
    step = max(2**16, *map(len, objects))
    for start in range(0, len(pairs), step):
        positive = pairs.labels[start : start + step] >= 1
        numbers = [
            _numbers_among(own, side.part(start, start + step)) for own, side in zip(objects, pairs.sides, strict=True)
        ]
        both = positive & (numbers[0] >= 0) & (numbers[1] >= 0)
        for column, number in zip(columns, numbers, strict=True):
            column.append(number[both])
    found = columns[0].as_array(), columns[1].as_array()
    for column in columns:
        column.close()
    return found


def _numbers_among(objects: Sequences, sequences: Sequences) -> Int32:
    """Return which of the unique `objects` each sequence is, -1 for none."""
    first, which = Sequences.joined([objects, sequences]).distinct()
    numbers = np.full(len(first), -1, np.int32)
    numbers[which[: len(objects)]] = np.arange(len(objects), dtype=np.int32)
    return numbers[which[len(objects) :]]
