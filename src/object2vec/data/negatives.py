"""Negative pairs: the `in0` of a positive pair beside the `in1` of another row, never a pair known to be positive."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Float32, Int32, Int64
from object2vec.data.disk_arrays import empty
from object2vec.ops import library
from object2vec.ops import sampling as sampling_ops

logger = logging.getLogger(__name__)

#: How often a draw that hit a known positive is drawn again before the positive is given up as having no negative.
ROUNDS = 64
#: With as many pairs of objects each has a bit of its own, 32 MB together.
EACH = 2**28


class NegativeSampler:
    """Draws `rate` negatives for each positive row (label at least 1); new ones at every call.

    Their `in1` comes from all rows alike, so that an object is drawn as often as it stands in them, or with `uniform`
    from all different objects alike; where a draw says so, from those of the rows that it is for. Which one it is hangs
    on nothing but a seed and the place of the negative, whatever the order and the number of threads.

    `objects` says for each row which object its `in0` and its `in1` are, (N,) each: rows that hold the same tokens
    hold the same object, and whether a pair is known to be positive is a question of objects. An `in1` is given by a
    row that has it, or where one `gives_objects` by which object it is. `more_known` holds further pairs of objects
    that are known to be positive, (M,) each.
    """

    def __init__(
        self,
        objects: tuple[Int32, Int32],
        labels: Float32,
        rate: int,
        *,
        uniform: bool = False,
        gives_objects: bool = False,
        more_known: tuple[Int32, Int32] | None = None,
    ) -> None:
        self.rate = rate
        self.gives_objects = gives_objects
        self.positive = labels >= 1
        self._objects = objects
        self._all = _one_row_each(objects[1]) if uniform else None  # the rows to draw from, where it is not from all
        self._warned = False
        self._known = _known(objects, self.positive, more_known or (np.empty(0, np.int32), np.empty(0, np.int32)))

    def draw(self, rows: Int64, generator: np.random.Generator, *, from_these: bool = False) -> Int64:
        """The `in1` of each of `rows` (n,), and behind it those of its negatives: (n, 1 + rate), -1 for none.

        A positive whose `in0` is positive with all that was drawn for it has fewer than `rate`; a warning says so once.
        """
        sources = self._among(rows) if from_these else self._all
        among = len(self._objects[1]) if sources is None else sources
        seed = int(generator.integers(2**63))
        if library.available():
            given = rows, self.positive, among, self._objects, self._known
            drawn, found = sampling_ops.draw_negatives(
                *given, rate=self.rate, seed=seed, rounds=ROUNDS, give_objects=self.gives_objects
            )
        else:
            drawn, found = self._draw_plainly(rows, among, seed)
        wanted = int(np.count_nonzero(self.positive[rows])) * self.rate
        if found < wanted and not self._warned:
            self._warned = True
            what = (
                f"of {wanted} negatives {wanted - found} could not be drawn: nearly all in1 are positive with their in0"
            )
            logger.warning(f"{what}. The batch has fewer, and so may others have")
        return drawn

    def _draw_plainly(self, rows: Int64, among: Int64 | int, seed: int) -> tuple[Int64, int]:
        """What the kernel does, in numpy."""
        place = np.arange(len(rows) * self.rate)[np.repeat(self.positive[rows], self.rate)]
        row0, row1 = rows[place // self.rate], np.full(len(rows) * self.rate, -1)
        again, count = np.arange(len(place)), among if isinstance(among, int) else len(among)
        for turn in range(ROUNDS):
            at = _below(count, _random_at(seed, place[again] * ROUNDS + turn)) if len(again) else again
            row = at if isinstance(among, int) else among[at]
            known = self._is_known(row0[again], row)
            row1[place[again[~known]]] = row[~known]
            again = again[known]
        drawn = np.column_stack((rows, row1.reshape(len(rows), self.rate)))
        if self.gives_objects:
            drawn = np.where(drawn < 0, drawn, self._objects[1][drawn])
        return drawn, len(place) - len(again)

    def _is_known(self, row0: Int64, row1: Int64) -> npt.NDArray[np.bool_]:
        starts, partners, *_ = self._known
        object0, object1 = self._objects[0][row0], self._objects[1][row1]
        at, left, last = starts[object0], np.diff(starts)[object0], len(partners) - 1
        known = left > 0
        while (left > 1).any():  # the search of the kernel, for all pairs at once
            half = left // 2
            at = at + np.where(partners[np.minimum(at + half - (half > 0), last)] < object1, half, 0)
            left = left - half
        return known & (partners[np.minimum(at, last)] == object1) if len(partners) else known

    def _among(self, rows: Int64) -> Int64:
        return rows[_one_row_each(self._objects[1][rows])] if self._all is not None else rows


def _random_at(seed: int, places: Int64) -> npt.NDArray[np.uint64]:
    """The random numbers of places, (n,): splitmix64."""
    z: npt.NDArray[np.uint64] = (places.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(seed)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        z ^= z >> np.uint64(shift)
        z *= np.uint64(factor)
    return z


def _below(count: int, random: npt.NDArray[np.uint64]) -> Int64:
    """random * count / 2^64, for a count below 2^32."""
    half, size = np.uint64(32), np.uint64(count)
    high, low = random >> half, random & np.uint64(2**32 - 1)
    return (high * size + (low * size >> half) >> half).astype(np.int64)


def _one_row_each(objects: Int32) -> Int64:
    """A row of each object that stands in rows."""
    return np.unique(objects, return_index=True)[1]


def _known(
    objects: tuple[Int32, Int32], positive: npt.NDArray[np.bool_], more: tuple[Int32, Int32]
) -> sampling_ops.Partners:
    """Return the objects of side 1 that each object of side 0 has in positive rows, or has in `more` pairs of them."""
    count0, count1 = (int(side.max(initial=-1)) + 1 for side in objects)
    key: Int64 = empty(int(np.count_nonzero(positive)) + len(more[0]), np.int64)
    each = count1 if count0 * count1 <= EACH else 0
    bits = empty(count0 * count1 // 8 + 1 if each else 2 * len(key), np.uint8)
    bits[:] = 0
    at = 0
    of_rows = (tuple(side[part][positive[part]] for side in objects) for part in _parts(len(positive)))
    for own0, own1 in chain(of_rows, [more]):
        if library.available():
            sampling_ops.mark_pairs((own0, own1), bits, each)
        key[at : at + len(own0)] = own0.astype(np.int64) * count1 + own1
        at += len(own0)
    key.sort()
    partners: Int32 = empty(len(key), np.int32)
    np.mod(key, count1, out=partners, casting="unsafe")
    starts: Int64 = empty(count0 + 1, np.int64)
    for part in _parts(len(starts)):
        starts[part] = np.searchsorted(key, np.arange(part.start, part.stop) * count1)
    return sampling_ops.Partners(starts, partners, bits, each)


def _parts(length: int, size: int = 2**20) -> Iterator[slice]:
    """An array cut into parts, so that what is made of them stays small."""
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
