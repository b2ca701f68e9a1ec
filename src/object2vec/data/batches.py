"""Pairs to batches: which pairs stand together, in which order, and each object of a batch only once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Float32, Int32, Int64
from object2vec.data.disk_arrays import advise_reads, empty
from object2vec.data.negatives import NegativeSampler
from object2vec.data.sequences import Pairs, Sequences, positives_among
from object2vec.ops import sampling as sampling_ops
from object2vec.ops import sequences as sequences_ops

#: Pairs of an epoch that are made ready at a time, before negatives: memory is needed for so many, not for a channel.
#: With buckets there are as many to choose from; without, so few that they are still in a cache when batches are cut.
BLOCK: Final = 2**18
CACHED: Final = 2**12
#: Bytes of pairs from which on an epoch's order is made of runs of so many rows: read from disk one by one, in an order
#: of chance, what is larger than memory would take a hundred times as long.
LARGE: Final = 2**29
RUN: Final = 2**10
#: Separates the random numbers of scoring from those of an epoch.
SCORING: Final = 1


@dataclass(frozen=True, slots=True)
class Batch:
    """P pairs over the objects that stand in them.

    `objects[side]` holds the sequences to encode; pair p is made of number `index[side][p]` of each side.
    `index` and `labels` are (P,). `single` says that each object is one token other than 0.
    """

    objects: tuple[Sequences, Sequences]
    index: tuple[Int64, Int64]
    labels: Float32
    single: bool = False

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Examples:
    """P pairs by reference: row `rows[0][p]` of side 0 with row `rows[1][p]` of side 1; all are (P,)."""

    rows: tuple[Int64, Int64]
    labels: Float32

    @classmethod
    def none(cls) -> Examples:
        """No pair."""
        return cls((np.empty(0, np.int64), np.empty(0, np.int64)), np.empty(0, np.float32))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, places: slice | Int64 | npt.NDArray[np.bool_]) -> Examples:
        return Examples((self.rows[0][places], self.rows[1][places]), self.labels[places])

    def __add__(self, other: Examples) -> Examples:
        row0, row1 = (np.concatenate(both) for both in zip(self.rows, other.rows, strict=True))
        return Examples((row0, row1), np.concatenate([self.labels, other.labels]))


class Batches:
    """Cuts pairs into batches of `size`; the last one of a bucket may be smaller, and no pair stands in two.

    Each call of `epoch` gives a new order and new negatives; the same seed and epoch give the same again. Of a large
    channel runs of rows stay together in a block of 2^18 rows, which change places and give one another negatives.
    With a `share` of (r, R) every Rth batch is given, from batch r on: those who hold the same pairs share them so.
    `known` are further pairs, whose positives are no negatives here.
    """

    def __init__(
        self,
        pairs: Pairs,
        *,
        size: int,
        bucket_width: int = 0,
        negatives: int = 0,
        uniform_negatives: bool = False,
        seed: int = 0,
        share: tuple[int, int] = (0, 1),
        known: Pairs | None = None,
    ) -> None:
        self.size = size
        self.first_batch, self.stride = share
        self.bucket_width = bucket_width
        self.seed = seed
        self.labels = pairs.labels
        self.sides = pairs.sides
        (first0, which0), (first1, which1) = pairs.in0.distinct(), pairs.in1.distinct()
        self.which = which0, which1
        self._objects = len(first0), len(first1)
        self._single = all(side.single for side in self.sides)
        if self._single:  # an object is so little that a side is its objects: which a row has is looked up but once
            self.sides = pairs.in0.take(first0), pairs.in1.take(first1)
            self._offsets = np.arange(max(size, 1 + negatives) + 1)
        self._run = RUN if pairs.nbytes > LARGE else 1
        more_known = None
        if known is not None:
            more_known = positives_among((pairs.in0.take(first0), pairs.in1.take(first1)), known)
        self.sampler = (
            NegativeSampler(
                self.which,
                pairs.labels,
                negatives,
                uniform=uniform_negatives,
                gives_objects=self._single,
                more_known=more_known,
            )
            if negatives
            else None
        )

    @property
    def examples(self) -> int:
        """Pairs of an epoch, negatives included; a few less where an object has no negative to be had."""
        return len(self.labels) + (
            int(np.count_nonzero(self.sampler.positive)) * self.sampler.rate if self.sampler else 0
        )

    def in_order(self) -> Iterator[Batch]:
        """Give all pairs once in their order, for scoring.

        The negatives of a positive come right after it. They depend only on the seed and the place of the batch, so
        each call gives the same ones.
        """
        size = max(1, self.size // (1 + self.sampler.rate)) if self.sampler else self.size
        for start in range(self.first_batch * size, len(self.labels), self.stride * size):
            rows = np.arange(start, min(start + size, len(self.labels)))
            if self.sampler:
                yield self._batch(self._beside(rows, np.random.default_rng((self.seed, SCORING, start))))
            else:
                yield self._batch(Examples(self._of_sides(rows), self.labels[rows]))

    def epoch(self, number: int, skip: int = 0) -> Iterator[Batch]:
        """All pairs once in a new order, negatives beside them: for training. The first `skip` batches are left out."""
        generator = np.random.default_rng((self.seed, number))
        left, batches, done = Examples.none(), count(), 0
        for rows in self._blocks(generator):
            done += len(rows)
            examples = self._beside(rows, generator, from_these=self._run > 1)
            examples = left + examples if len(left) else examples
            examples, cuts = self._cut(examples)
            least = self.size if done < len(self.labels) else 1
            ready = [cut for cut in cuts if len(cut) >= least]
            left = examples[np.array([place for cut in cuts if len(cut) < least for place in cut], np.int64)]
            for turn in generator.permutation(len(ready)) if self.bucket_width else range(len(ready)):
                before, member = divmod(next(batches), self.stride)
                if member == self.first_batch and before >= skip:
                    yield self._batch(examples[ready[turn].start : ready[turn].stop])

    def _blocks(self, generator: np.random.Generator) -> Iterator[Int64]:
        """All rows in a new order, a block at a time."""
        starts: Int32 = empty(-(-len(self.labels) // self._run), np.int32)
        starts[:] = np.arange(0, len(self.labels), self._run, dtype=np.int32)
        generator.shuffle(starts)
        block = BLOCK // self._run if self.bucket_width or self._run > 1 else max(CACHED, self.size)
        for at in range(0, len(starts), block):
            runs = starts[at : at + block].astype(np.int64)
            rows = (runs[:, None] + np.arange(self._run)).ravel()
            rows = rows[rows < len(self.labels)]
            if self._run > 1:
                generator.shuffle(rows)
                self._advise_reads([(start, min(start + self._run, len(self.labels))) for start in runs.tolist()])
            yield rows

    def _advise_reads(self, runs: Sequence[tuple[int, int]]) -> None:
        """Have runs of rows read from disk."""
        for column in (self.labels, *self.which):
            advise_reads(column, runs)
        for side in () if self._single else self.sides:
            side.advise_reads(runs)

    def _beside(self, rows: Int64, generator: np.random.Generator, *, from_these: bool = False) -> Examples:
        """Rows in the given order, the negatives of a row right after it, so that its `in0` is encoded once for all."""
        if not self.sampler:
            return Examples(self._of_sides(rows), self.labels[rows])
        row1 = self.sampler.draw(rows, generator, from_these=from_these)
        objects0 = self.which[0] if self._single else None
        row0, row1, label = sampling_ops.append_negatives(rows, objects0, self.labels, row1)
        return Examples((row0, row1), label)

    def _of_sides(self, rows: Int64) -> tuple[Int64, Int64]:
        """The rows of each side that make these rows of the pairs."""
        if not self._single:
            return rows, rows
        return self.which[0][rows].astype(np.int64), self.which[1][rows].astype(np.int64)

    def _cut(self, examples: Examples) -> tuple[Examples, list[range]]:
        """Where to cut into batches; with buckets, examples whose longer sides fall in one step of `bucket_width` come
        next to one another before.
        """
        ends = [len(examples)]
        if self.bucket_width:
            lengths = (side.lengths_of(rows) for side, rows in zip(self.sides, examples.rows, strict=True))
            bucket = np.maximum(*lengths) // self.bucket_width
            order = np.argsort(bucket, kind="stable")
            examples = examples[order]
            ends = [*(np.flatnonzero(np.diff(bucket[order])) + 1).tolist(), len(examples)]
        buckets = pairwise([0, *ends])
        return examples, [range(at, min(at + self.size, end)) for a, end in buckets for at in range(a, end, self.size)]

    def _batch(self, examples: Examples) -> Batch:
        if self._single:
            values = self.sides[0].values, self.sides[1].values
            tokens, index = sequences_ops.unique_tokens(examples.rows, values, self._lut)
            objects = self._one_each(tokens[0]), self._one_each(tokens[1])
            return Batch(objects, index, examples.labels, single=True)
        first, index = sequences_ops.unique_rows(examples.rows, self.which, self._lut)
        objects = self.sides[0].take(first[0]), self.sides[1].take(first[1])
        return Batch(objects, index, examples.labels)

    def _one_each(self, tokens: Int32) -> Sequences:
        """Objects of one token."""
        return Sequences(tokens, self._offsets[: len(tokens) + 1])

    @cached_property
    def _lut(self) -> tuple[Int32, Int32]:
        """Scratch of the kernel, -1 for each object of a side."""
        luts: tuple[Int32, Int32] = empty(self._objects[0], np.int32), empty(self._objects[1], np.int32)
        for lut in luts:
            lut[:] = -1
        return luts
