"""Sample negatives: the `in0` of a positive with the `in1` of another row, never a known positive pair."""

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

#: Up to this number of pairs of objects, each pair has its own bit (32 MB).
MAX_PAIR_BITS = 2**28


class NegativeSampler:
    """Draws `rate` negatives for each positive row (label at least 1), new ones in each call.

    `in1` is drawn uniformly from all rows, so the probability of an object is proportional to its frequency. With
    `uniform`, it is drawn uniformly from the unique objects. The result depends only on the seed and the position of
    the negative, not on the number of threads.

    `objects` are the objects of `in0` and `in1` of each row, (N,) each; rows with the same tokens have the same object.
    Known positives are pairs of objects. `draw` returns a row for each `in1`, or its object with `give_objects`.
    `extra_known` are more known positives, (M,) each.
    """

    def __init__(
        self,
        objects: tuple[Int32, Int32],
        labels: Float32,
        rate: int,
        *,
        uniform: bool = False,
        give_objects: bool = False,
        extra_known: tuple[Int32, Int32] | None = None,
    ) -> None:
        self.rate = rate
        self.give_objects = give_objects
        self.positive = labels >= 1
        self._all = _unique_rows(objects[1]) if uniform else None  # the rows to draw from; None means all
        self._warned = False
        self._known = _known_positives(objects, self.positive, extra_known or (objects[0][:0], objects[1][:0]))

    def draw(self, rows: Int64, generator: np.random.Generator, *, from_rows: bool = False) -> Int64:
        """Return the `in1` of each of `rows` (n,) and of its negatives: (n, 1 + rate), -1 for a failed draw.

        With `from_rows`, draw only from `rows`. Warn once if draws fail, because all of them hit known positives.
        """
        sources = self._all
        if from_rows:
            sources = rows if sources is None else rows[_unique_rows(self._known.objects[1][rows])]
        seed = int(generator.integers(2**63))
        drawn, found = sampling_ops.draw_negatives(
            rows, sources, self._known, rate=self.rate, seed=seed, give_objects=self.give_objects
        )
        wanted = int(np.count_nonzero(self.positive[rows])) * self.rate
        if found < wanted and not self._warned:
            self._warned = True
            what = f"of {wanted} negatives {wanted - found} could not be drawn"
            why = "nearly all in1 are positive with their in0. The batch has fewer, and so may others have"
            logger.warning(f"{what}: {why}")
        return drawn


def _unique_rows(objects: Int32) -> Int64:
    """Return one row of each unique object."""
    return np.unique(objects, return_index=True)[1]


def _known_positives(
    objects: tuple[Int32, Int32], positive: npt.NDArray[np.bool_], more: tuple[Int32, Int32]
) -> sampling_ops.Positives:
    """Return the known positive pairs: those of positive rows, and `more`."""
    count0, count1 = (int(side.max(initial=-1)) + 1 for side in objects)
    key: Int64 = empty(int(np.count_nonzero(positive)) + len(more[0]), np.int64)
    each = count1 if count0 * count1 <= MAX_PAIR_BITS else 0
    bits = empty(count0 * count1 // 8 + 1 if each else 2 * len(key), np.uint8)
    bits[:] = 0
    at = 0
    of_rows = (tuple(side[part][positive[part]] for side in objects) for part in _slices(len(positive)))
    for own0, own1 in chain(of_rows, [more]):
        sampling_ops.mark_positives((own0, own1), bits, each)
        key[at : at + len(own0)] = own0.astype(np.int64) * count1 + own1
        at += len(own0)
    key.sort()
    partners: Int32 = empty(len(key), np.int32)
    np.mod(key, count1, out=partners, casting="unsafe")
    starts: Int64 = empty(count0 + 1, np.int64)
    for part in _slices(len(starts)):
        starts[part] = np.searchsorted(key, np.arange(part.start, part.stop) * count1)
    return sampling_ops.Positives(objects, positive, starts, partners, bits, each)


def _slices(length: int, size: int = 2**20) -> Iterator[slice]:
    """Return slices of an array, to limit temporary memory."""
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
