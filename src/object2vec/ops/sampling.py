"""Negative pairs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Int32, Int64
from object2vec.ops import library
from object2vec.ops.arguments import call, check_range, check_shapes

#: Draws for one negative, if they hit known positives, before it is given up.
MAX_DRAWS = 64


class Positives(NamedTuple):
    """The objects of each row, (N,) for both sides, which rows are positive (N,), and the known positive pairs.

    The partners of object o of side 0 are partners[starts[o]:starts[o + 1]], ascending. `bits` lets the kernel skip
    most searches. With bits_per_object > 0 each pair of objects has its own bit. With 0 a hash chooses the bit of a
    pair; a bit of 0 means that the pair is not known.
    """

    objects: tuple[Int32, Int32]
    is_positive: npt.NDArray[np.bool_]
    starts: Int64
    partners: Int32
    bits: npt.NDArray[np.uint8]
    bits_per_object: int


def mark_positives(objects: tuple[Int32, Int32], bits: npt.NDArray[np.uint8], bits_per_object: int) -> None:
    """Set the bits of n pairs of objects, (n,) each, for the kernel; see `Positives`.

    With bits_per_object > 0, `bits` must have a bit for each pair of objects.
    """
    if library.available():
        check_shapes("mark_positives", object1=(objects[1], objects[0].shape))
        call("mark_positives", *objects, len(objects[0]), bits, bits_per_object, 8 * len(bits))


def draw_negatives(
    rows: Int64, sources: Int64 | None, known: Positives, *, rate: int, seed: int, give_objects: bool
) -> tuple[Int64, int]:
    """Draw `rate` negatives for each of n rows that is positive; return (n, 1 + rate) and the number drawn.

    Each line has the row, and then its draws, -1 for a failed one. A draw is uniform from all rows, or from
    `sources`. It is repeated, up to `MAX_DRAWS` times, while its object of side 1 is a known partner of the row's
    object of side 0. With `give_objects` the objects of side 1 are returned instead of rows. The result depends on the
    seed and the place alone.
    """
    (first, second), positive, *partners = known
    if not library.available():
        out, found = _draw_negatives_numpy(rows, sources, known, rate, seed)
        return np.where(out < 0, out, second[out]) if give_objects else out, found
    check_range("draw_negatives", "rows", rows, len(first))
    check_shapes("draw_negatives", positive=(positive, first.shape), objects1=(second, first.shape))
    out = np.empty((len(rows), 1 + rate), np.int64)
    count = len(second) if sources is None else len(sources)
    given = rows, len(rows), positive, rate, seed, MAX_DRAWS, sources, count
    return out, call("draw_negatives", *given, first, second, *partners, 8 * len(known.bits), give_objects, out)


def _draw_negatives_numpy(
    rows: Int64, sources: Int64 | None, known: Positives, rate: int, seed: int
) -> tuple[Int64, int]:
    (first, second), place = known.objects, np.arange(len(rows) * rate)[np.repeat(known.is_positive[rows], rate)]
    object0, out = first[rows[place // rate]], np.full(len(rows) * rate, -1)
    pending, count = np.arange(len(place)), len(second if sources is None else sources)
    for turn in range(MAX_DRAWS):
        index = _below(count, _random_at(seed, place[pending] * MAX_DRAWS + turn)) if len(pending) else pending
        row = index if sources is None else sources[index]
        is_known = _are_partners(object0[pending], second[row], known)
        out[place[pending[~is_known]]] = row[~is_known]
        pending = pending[is_known]
    return np.column_stack((rows, out.reshape(len(rows), rate))), len(place) - len(pending)


def _are_partners(object0: Int32, object1: Int32, known: Positives) -> npt.NDArray[np.bool_]:
    starts, partners = known.starts, known.partners
    at, left, last = starts[object0], np.diff(starts)[object0], len(partners) - 1
    found = left > 0
    while (left > 1).any():  # the kernel's search, for all pairs at once
        half = left // 2
        at = at + np.where(partners[np.minimum(at + half - (half > 0), last)] < object1, half, 0)
        left = left - half
    return found & (partners[np.minimum(at, last)] == object1) if len(partners) else found


def _random_at(seed: int, places: Int64) -> npt.NDArray[np.uint64]:
    """Return the random numbers of places, (n,): splitmix64."""
    z: npt.NDArray[np.uint64] = (places.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(seed)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        z ^= z >> np.uint64(shift)
        z *= np.uint64(factor)
    return z


def _below(count: int, random: npt.NDArray[np.uint64]) -> Int64:
    """Return random * count / 2^64, for a count below 2^32."""
    half, size = np.uint64(32), np.uint64(count)
    high, low = random >> half, random & np.uint64(2**32 - 1)
    return (high * size + (low * size >> half) >> half).astype(np.int64)
