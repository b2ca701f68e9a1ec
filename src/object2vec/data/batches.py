"""Make batches of pairs: order, buckets and negatives, with each object only once per batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Float32, Int32, Int64
from object2vec.data.candidates import Candidates, CandidateSampler
from object2vec.data.disk_arrays import advise_reads, empty
from object2vec.data.negatives import NegativeSampler
from object2vec.data.sequences import Pairs, Sequences, find_known_positives
from object2vec.ops import sequences as sequences_ops

#: Rows per block of an epoch, before negatives: memory is needed for one block, not for the channel. With buckets, a
#: large block gives full batches; without, a small block stays in the CPU cache.
BLOCK_ROWS: Final = 2**18
CACHE_ROWS: Final = 2**12
#: Larger channels are shuffled in runs of rows: reading single rows at random from disk is a hundred times slower.
MIN_RUN_BYTES: Final = 2**29
RUN_ROWS: Final = 2**10
#: Separates the random stream of scoring from those of epochs.
SCORING_STREAM: Final = 1
#: Separates the random stream of candidates from that of negatives.
CANDIDATE_STREAM: Final = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """P pairs and their unique objects.

    `objects[side]` are the sequences to encode. Pair p has object `index[side][p]` on each side. `index` and `labels`
    are (P,). If `single`, each object is one token other than 0. `weights` (P,) multiply the loss of each pair; None is
    1 for all. `classes` are those of each pair, where it can have several. For a ranking loss, `candidates` are objects
    of in1 after those of the pairs.
    """

    objects: tuple[Sequences, Sequences]
    index: tuple[Int64, Int64]
    labels: Float32
    single: bool = False
    weights: Float32 | None = None
    classes: Sequences | None = None
    candidates: Candidates | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def weight(self) -> float:
        """Return the sum of the weights of all pairs."""
        return len(self) if self.weights is None else float(self.weights.sum(dtype=np.float64))


@dataclass(frozen=True, slots=True)
class Examples:
    """P pairs by reference: row `rows[0][p]` of side 0 and row `rows[1][p]` of side 1; all arrays are (P,).

    `pairs` are the given pairs that these have weights and classes of; None if there are none.
    """

    rows: tuple[Int64, Int64]
    labels: Float32
    pairs: Int64 | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Int64 | npt.NDArray[np.bool_]) -> Examples:
        pairs = None if self.pairs is None else self.pairs[index]
        return Examples((self.rows[0][index], self.rows[1][index]), self.labels[index], pairs)

    def __add__(self, other: Examples) -> Examples:
        row0, row1 = (np.concatenate(both) for both in zip(self.rows, other.rows, strict=True))
        pairs = None
        if self.pairs is not None and other.pairs is not None:
            pairs = np.concatenate([self.pairs, other.pairs])
        return Examples((row0, row1), np.concatenate([self.labels, other.labels]), pairs)


class Batches:
    """Splits pairs into batches of `size`; the last batch of a bucket may be smaller.

    Each epoch has a new order and new negatives, which depend only on the seed and the epoch. A large channel is
    shuffled in runs of rows: each block of 2^18 rows has random runs, shuffles their rows, and draws negatives from
    them. With `share` (r, R), only every Rth batch from batch r is given, so that ranks can share the same pairs.
    Positives of the pairs `known` are never negatives. A negative has the weight of its positive.

    With `sampled_candidates`, batches are for a ranking loss: they have `candidates`, with those that this number of
    draws gives. Pairs of a label below 1 are then negatives of the positive before them, and in no batch themselves.
    With `in0_balance`, the weight of each pair is divided by this power of the number of pairs of its in0,
    without those that are given negatives.
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
        sampled_candidates: int | None = None,
        in0_balance: float = 0.0,
    ) -> None:
        self.size = size
        self.first_batch, self.stride = share
        self.bucket_width = bucket_width
        self.seed = seed
        self.labels, self.weights, self.classes = pairs.labels, pairs.weights, pairs.classes
        self.sides = pairs.sides
        (first0, which0), (first1, which1) = pairs.in0.unique(), pairs.in1.unique()
        self.inverse = which0, which1
        self._objects = len(first0), len(first1)
        self.candidates = None
        if sampled_candidates is not None:
            self.candidates = CandidateSampler(
                which1, pairs.labels, len(first1), batch_size=size, sampled=sampled_candidates
            )
        #: The rows that batches consist of; None is all.
        self._rows = self.candidates.positives if self.candidates else None
        self._count = len(pairs) if self._rows is None else len(self._rows)
        if in0_balance:
            counts = np.bincount(which0 if self._rows is None else which0[self._rows], minlength=len(first0))
            self.weights = _balanced_weights(which0, counts, pairs.weights, in0_balance)
        self._single = self._rows is None and all(side.single for side in self.sides)
        self._first1 = np.arange(len(first1)) if self._single else first1.astype(np.int64)
        if self._single:  # replace rows by objects, so that each row is looked up only once
            self.sides = pairs.in0.take(first0), pairs.in1.take(first1)
            self._offsets = np.arange(max(size, 1 + negatives) + (sampled_candidates or 0) + 1)
        self._run_rows = RUN_ROWS if pairs.nbytes > MIN_RUN_BYTES else 1
        self.sampler = None
        if negatives:
            more = None
            if known is not None:
                more = find_known_positives((pairs.in0.take(first0), pairs.in1.take(first1)), known)
            options = {"uniform": uniform_negatives, "give_objects": self._single}
            self.sampler = NegativeSampler(self.inverse, pairs.labels, negatives, extra_known=more, **options)

    @property
    def examples(self) -> int:
        """Return the pairs of an epoch with negatives; an epoch has fewer if some negatives cannot be drawn."""
        return self._count + (int(np.count_nonzero(self.sampler.positive)) * self.sampler.rate if self.sampler else 0)

    def in_order(self) -> Iterator[Batch]:
        """Yield all pairs in order, for scoring.

        Negatives follow their positive. They depend only on the seed and the start of the batch, so all calls give the
        same ones.
        """
        size = max(1, self.size // (1 + self.sampler.rate)) if self.sampler else self.size
        for start in range(self.first_batch * size, self._count, self.stride * size):
            rows = self._to_rows(np.arange(start, min(start + size, self._count)))
            place = self.seed, SCORING_STREAM, start
            yield self._batch(self._with_negatives(rows, np.random.default_rng(place)), place)

    def epoch(self, number: int, skip: int = 0) -> Iterator[Batch]:
        """Yield all pairs in a new order with negatives, for training. Skip the first `skip` batches."""
        generator = np.random.default_rng((self.seed, number))
        batches, done = count(), 0
        left: Examples | None = None
        for rows in self._blocks(generator):
            done += len(rows)
            examples = self._with_negatives(rows, generator, from_rows=self._run_rows > 1)
            examples = left + examples if left else examples
            examples, parts = self._split_batches(examples)
            min_size = self.size if done < self._count else 1
            ready = [part for part in parts if len(part) >= min_size]
            left = examples[np.array([index for part in parts if len(part) < min_size for index in part], np.int64)]
            for place in generator.permutation(len(ready)) if self.bucket_width else range(len(ready)):
                at = next(batches)
                before, member = divmod(at, self.stride)
                if member == self.first_batch and before >= skip:
                    yield self._batch(examples[ready[place].start : ready[place].stop], (self.seed, number, at))

    def _blocks(self, generator: np.random.Generator) -> Iterator[Int64]:
        """Yield all rows in a new order, in blocks."""
        starts: Int32 = empty(-(-self._count // self._run_rows), np.int32)
        starts[:] = np.arange(0, self._count, self._run_rows, dtype=np.int32)
        generator.shuffle(starts)
        block = BLOCK_ROWS // self._run_rows if self.bucket_width or self._run_rows > 1 else max(CACHE_ROWS, self.size)
        for at in range(0, len(starts), block):
            runs = starts[at : at + block].astype(np.int64)
            rows = (runs[:, None] + np.arange(self._run_rows)).ravel()
            rows = self._to_rows(rows[rows < self._count])
            if self._run_rows > 1:
                generator.shuffle(rows)
                ends = self._to_rows(np.minimum(runs + self._run_rows, self._count) - 1) + 1
                self._advise_reads(list(zip(self._to_rows(runs).tolist(), ends.tolist(), strict=True)))
            yield rows

    def _to_rows(self, numbers: Int64) -> Int64:
        """Return the rows of pairs that batches consist of, given by number."""
        return numbers if self._rows is None else self._rows[numbers]

    def _advise_reads(self, runs: Sequence[tuple[int, int]]) -> None:
        """Advise the system that these runs of rows will be read soon."""
        for column in (self.labels, *self.inverse, *([] if self.weights is None else [self.weights])):
            advise_reads(column, runs)
        for each in (*(() if self._single else self.sides), *([] if self.classes is None else [self.classes])):
            each.advise_reads(runs)

    def _with_negatives(self, rows: Int64, generator: np.random.Generator, *, from_rows: bool = False) -> Examples:
        """Return rows in order, each followed by its negatives, so that a batch encodes their `in0` once."""
        pairs = rows if any(each is not None for each in (self.weights, self.classes, self._rows)) else None
        if not self.sampler:
            return Examples(self._side_rows(rows), self.labels[rows], pairs)
        drawn = self.sampler.draw(rows, generator, from_rows=from_rows)
        row0 = self.inverse[0][rows].astype(np.int64) if self._single else rows
        labels = np.zeros(drawn.shape, np.float32)
        labels[:, 0] = self.labels[rows]
        pairs = None if pairs is None else np.repeat(pairs, drawn.shape[1])
        examples = Examples((np.repeat(row0, drawn.shape[1]), drawn.ravel()), labels.ravel(), pairs)
        found = drawn.ravel() >= 0  # -1 is a failed draw
        return examples if found.all() else examples[found]

    def _side_rows(self, rows: Int64) -> tuple[Int64, Int64]:
        """Return the rows of each side for rows of pairs."""
        if not self._single:
            return rows, rows
        return self.inverse[0][rows].astype(np.int64), self.inverse[1][rows].astype(np.int64)

    def _split_batches(self, examples: Examples) -> tuple[Examples, list[range]]:
        """Split examples into batches, after sorting them into buckets by the length of their longer side."""
        ends = [len(examples)]
        if self.bucket_width:
            lengths = (side.lengths_of(rows) for side, rows in zip(self.sides, examples.rows, strict=True))
            bucket = np.maximum(*lengths) // self.bucket_width
            order = np.argsort(bucket, kind="stable")
            examples = examples[order]
            ends = [*(np.flatnonzero(np.diff(bucket[order])) + 1).tolist(), len(examples)]
        buckets = pairwise([0, *ends])
        return examples, [range(at, min(at + self.size, end)) for a, end in buckets for at in range(a, end, self.size)]

    def _batch(self, examples: Examples, place: tuple[int, int, int]) -> Batch:
        """Return the batch of some examples; `place` is the seed of its candidates."""
        first, index = sequences_ops.unique_rows(examples.rows, None if self._single else self.inverse, self._luts)
        rows1, candidates = first[1], None
        if self.candidates:
            own = rows1 if self._single else self.inverse[1][rows1]
            generator = np.random.default_rng((*place, CANDIDATE_STREAM))
            candidates = self.candidates.draw(own, examples.pairs, index[0], generator)
            rows1 = np.concatenate([rows1, self._first1[candidates.drawn], self._first1[candidates.given]])
        left, right = self._objects_at(self.sides[0], first[0]), self._objects_at(self.sides[1], rows1)
        weights = None if self.weights is None else self.weights[examples.pairs]
        classes = None if self.classes is None or examples.pairs is None else self.classes.take(examples.pairs)
        return Batch((left, right), index, examples.labels, self._single, weights, classes, candidates)

    def _objects_at(self, side: Sequences, rows: Int64) -> Sequences:
        if self._single:
            return Sequences(side.values[rows], self._offsets[: len(rows) + 1])
        return side.take(rows)

    @cached_property
    def _luts(self) -> tuple[Int32, Int32]:
        """Return scratch arrays of the kernel: -1 for each object of a side."""
        luts: tuple[Int32, Int32] = empty(self._objects[0], np.int32), empty(self._objects[1], np.int32)
        for lut in luts:
            lut[:] = -1
        return luts


def _balanced_weights(objects: Int32, counts: Int64, weights: Float32 | None, power: float) -> Float32:
    """Return the weights (N,) of pairs with these objects (N,), divided by a power of the objects' `counts` (O,)."""
    factors = counts.clip(1).astype(np.float32) ** -power
    balanced: Float32 = empty(len(objects), np.float32)
    for start in range(0, len(objects), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        balanced[rows] = factors[objects[rows]] * (1 if weights is None else weights[rows])
    return balanced
