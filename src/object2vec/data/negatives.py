"""Negative pairs: the `in0` of a positive pair beside the `in1` of another row, never a pair known to be positive."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from object2vec import kernels
from object2vec.arrays import Float32, Int32, Int64
from object2vec.data.columns import empty

logger = logging.getLogger(__name__)

#: How often a draw that hit a known positive is drawn again before the positive is given up as having no negative.
ROUNDS = 64


class NegativeSampler:
    """Draws `rate` negatives for each positive row (label at least 1); new ones at every call.

    Their `in1` comes from all rows alike, so that an object is drawn as often as it stands in them, or with `uniform`
    from all different objects alike; where a draw says so, from those of the rows that it is for.

    `objects` says for each row which object its `in0` and its `in1` are, (N,) each: rows that hold the same tokens
    hold the same object, and whether a pair is known to be positive is a question of objects.
    """

    def __init__(self, objects: tuple[Int32, Int32], labels: Float32, rate: int, *, uniform: bool = False) -> None:
        self.rate = rate
        self.positive = labels >= 1
        self._objects = objects
        self._all = _one_row_each(objects[1]) if uniform else None  # the rows to draw from, where it is not from all
        self._warned = False
        self._starts, self._partners = _known(objects, self.positive)

    def _is_known(self, row0: Int64, row1: Int64) -> npt.NDArray[np.bool_]:
        if kernels.available():
            return kernels.are_partners((row0, row1), self._objects, self._starts, self._partners)
        object0, object1 = self._objects[0][row0], self._objects[1][row1]
        at, left, last = self._starts[object0], np.diff(self._starts)[object0], len(self._partners) - 1
        known = left > 0
        while (left > 1).any():  # the search of the kernel, for all pairs at once
            half = left // 2
            at = at + np.where(self._partners[np.minimum(at + half - (half > 0), last)] < object1, half, 0)
            left = left - half
        return known & (self._partners[np.minimum(at, last)] == object1)  # type: ignore[no-any-return]

    def draw(self, rows: Int64, generator: np.random.Generator, *, from_these: bool = False) -> tuple[Int64, Int64]:
        """Negatives for `rows` (n,): the places of their positives in `rows`, ascending, and the rows that give `in1`.

        A positive whose `in0` is positive with all that was drawn for it has fewer than `rate`; a warning says so once.
        """
        sources = self._among(rows) if from_these else self._all
        place = np.repeat(np.flatnonzero(self.positive[rows]), self.rate)
        row0, row1 = rows[place], self._any(sources, generator, len(place))
        again = np.flatnonzero(self._is_known(row0, row1)) if len(place) else place
        for _ in range(ROUNDS):
            if not len(again):
                break
            row1[again] = self._any(sources, generator, len(again))
            again = again[self._is_known(row0[again], row1[again])]
        if len(again) and not self._warned:
            self._warned = True
            what = (
                f"of {len(place)} negatives {len(again)} could not be drawn: nearly all in1 are positive with their in0"
            )
            logger.warning(f"{what}. The batch has fewer, and so may others have")
        return np.delete(place, again), np.delete(row1, again)

    def _among(self, rows: Int64) -> Int64:
        return rows[_one_row_each(self._objects[1][rows])] if self._all is not None else rows

    def _any(self, sources: Int64 | None, generator: np.random.Generator, count: int) -> Int64:
        """So many of the rows `sources`, or of all."""
        if sources is None:
            return generator.integers(len(self._objects[1]), size=count)
        return sources[generator.integers(len(sources), size=count)]


def _one_row_each(objects: Int32) -> Int64:
    """A row of each object that stands in rows."""
    return np.unique(objects, return_index=True)[1]


def _known(objects: tuple[Int32, Int32], positive: npt.NDArray[np.bool_]) -> tuple[Int64, Int32]:
    """The objects of side 1 that stand beside each object of side 0 in positive rows: those of object o are
    partners[starts[o]:starts[o + 1]], ascending.
    """
    count0, count1 = (int(side.max(initial=-1)) + 1 for side in objects)
    key: Int64 = empty(int(np.count_nonzero(positive)), np.int64)
    at = 0
    for part in _parts(len(positive)):
        own = positive[part]
        own0, own1 = (side[part][own] for side in objects)
        key[at : at + len(own0)] = own0.astype(np.int64) * count1 + own1
        at += len(own0)
    key.sort()
    partners: Int32 = empty(len(key), np.int32)
    np.mod(key, count1, out=partners, casting="unsafe")
    starts: Int64 = empty(count0 + 1, np.int64)
    for part in _parts(len(starts)):
        starts[part] = np.searchsorted(key, np.arange(part.start, part.stop) * count1)
    return starts, partners


def _parts(length: int, size: int = 2**20) -> Iterator[slice]:
    """An array cut into parts, so that what is made of them stays small."""
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
