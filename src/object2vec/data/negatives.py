"""Negative pairs: the `in0` of a positive pair beside the `in1` of another row, never a pair known to be positive."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Float32, Int32, Int64
from object2vec.data.disk_arrays import empty
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
        given = rows, self.positive, among, self._objects, self._known
        drawn, found = sampling_ops.draw_negatives(
            *given, rate=self.rate, seed=seed, rounds=ROUNDS, give_objects=self.gives_objects
        )
        wanted = int(np.count_nonzero(self.positive[rows])) * self.rate
        if found < wanted and not self._warned:
            self._warned = True
            what = (
                f"of {wanted} negatives {wanted - found} could not be drawn: nearly all in1 are positive with their in0"
            )
            logger.warning(f"{what}. The batch has fewer, and so may others have")
        return drawn

    def _among(self, rows: Int64) -> Int64:
        return rows[_one_row_each(self._objects[1][rows])] if self._all is not None else rows


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
        sampling_ops.mark_positives((own0, own1), bits, each)
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
