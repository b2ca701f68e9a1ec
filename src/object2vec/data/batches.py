"""Pairs to batches: which pairs stand together, in which order, and each object of a batch only once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from object2vec import kernels
from object2vec.arrays import Float32, Int32, Int64
from object2vec.data.negatives import NegativeSampler
from object2vec.data.sequences import Pairs, Sequences


@dataclass(frozen=True, slots=True)
class Batch:
    """P pairs over the objects that stand in them.

    `objects[side]` holds the sequences to encode; pair p is made of number `index[side][p]` of each side.
    `index` and `labels` are (P,).
    """

    objects: tuple[Sequences, Sequences]
    index: tuple[Int64, Int64]
    labels: Float32

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Examples:
    """P pairs by reference: `in0` of row `rows[0][p]` with `in1` of row `rows[1][p]`; all are (P,)."""

    rows: tuple[Int64, Int64]
    labels: Float32

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Int64) -> Examples:
        return Examples((self.rows[0][index], self.rows[1][index]), self.labels[index])


class Batches:
    """Cuts pairs into batches of `size`; the last one of a bucket may be smaller, and no pair stands in two.

    Each call of `epoch` gives a new order and new negatives; the same seed and epoch give the same again.
    """

    def __init__(self, pairs: Pairs, *, size: int, bucket_width: int = 0, negatives: int = 0, seed: int = 0) -> None:
        self.size = size
        self.bucket_width = bucket_width
        self.seed = seed
        self.labels = pairs.labels
        self.sides = pairs.sides
        (first0, which0), (first1, which1) = pairs.in0.distinct(), pairs.in1.distinct()
        self.first = first0, first1
        self.which = which0, which1
        self.sampler = NegativeSampler(self.which, pairs.labels, negatives) if negatives else None

    @property
    def examples(self) -> int:
        """Pairs of an epoch, negatives included; a few less where an object has no negative to be had."""
        return len(self.labels) + (len(self.sampler.positives) * self.sampler.rate if self.sampler else 0)

    def in_order(self) -> Iterator[Batch]:
        """All pairs once, as they stand, without negatives: for scoring."""
        yield from self._cut(self._given())

    def epoch(self, number: int) -> Iterator[Batch]:
        """All pairs once in a new order, negatives beside them: for training."""
        generator = np.random.default_rng((self.seed, number))
        examples = self._given()
        if self.sampler:
            examples = _beside(examples, self.sampler.draw(generator), generator)
        else:
            examples = examples.take(generator.permutation(len(examples)))
        yield from self._buckets(examples, generator) if self.bucket_width else self._cut(examples)

    def _given(self) -> Examples:
        rows = np.arange(len(self.labels))
        return Examples((rows, rows), self.labels)

    def _buckets(self, examples: Examples, generator: np.random.Generator) -> Iterator[Batch]:
        """Batches whose longer sides fall in one step of `bucket_width`, the batches themselves in a new order."""
        lengths = [self.sides[side].lengths[examples.rows[side]] for side in (0, 1)]
        bucket = np.maximum(*lengths) // self.bucket_width
        order = np.argsort(bucket, kind="stable")
        ends = np.flatnonzero(np.diff(bucket[order])) + 1
        parts = [
            part[start : start + self.size]
            for part in np.split(order, ends)
            for start in range(0, len(part), self.size)
        ]
        for number in generator.permutation(len(parts)):
            yield self._batch(examples.take(parts[number]))

    def _cut(self, examples: Examples) -> Iterator[Batch]:
        for start in range(0, len(examples), self.size):
            yield self._batch(examples.take(np.arange(start, min(start + self.size, len(examples)))))

    def _batch(self, examples: Examples) -> Batch:
        objects, index = [], []
        for side in (0, 1):
            used, place = self._number(side, self.which[side][examples.rows[side]])
            objects.append(self.sides[side].take(self.first[side][used]))
            index.append(place)
        return Batch((objects[0], objects[1]), (index[0], index[1]), examples.labels)

    def _number(self, side: int, objects: Int64) -> tuple[Int64, Int64]:
        """The different ones among P objects, and for each of P which of them it is."""
        if kernels.available():
            return kernels.number(objects, self._lut[side])
        return np.unique(objects, return_inverse=True)

    @cached_property
    def _lut(self) -> tuple[Int32, Int32]:
        """Scratch of the kernel, -1 for each object of a side."""
        return np.full(len(self.first[0]), -1, np.int32), np.full(len(self.first[1]), -1, np.int32)


def _beside(given: Examples, drawn: tuple[Int64, Int64], generator: np.random.Generator) -> Examples:
    """Rows in a new order, the negatives of a row right after it, so that its `in0` is encoded once for all of them."""
    place = generator.permutation(len(given))
    row0, row1 = (np.concatenate([g, d]) for g, d in zip(given.rows, drawn, strict=True))
    labels = np.concatenate([given.labels, np.zeros(len(drawn[0]), np.float32)])
    return Examples((row0, row1), labels).take(np.argsort(place[row0], kind="stable"))
