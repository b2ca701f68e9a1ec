"""Negative pairs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Float32, Int32, Int64
from object2vec.ops.arguments import call as _call
from object2vec.ops.arguments import (
    check_range,
    check_shapes,
)


class Partners(NamedTuple):
    """Which objects are partners: those of object o are partners[starts[o]:starts[o + 1]], ascending.

    `bits` has a bit for each pair of objects, `each` of them for an object of side 0; or, where those would be too
    many, some for each pair of partners, and `each` is 0. One whose bit is 0 is no pair of partners.
    """

    starts: Int64
    partners: Int32
    bits: npt.NDArray[np.uint8]
    each: int


def mark_pairs(objects: tuple[Int32, Int32], bits: npt.NDArray[np.uint8], each: int) -> None:
    """Set the bits of n pairs of objects, (n,) each, as `Partners` has them."""
    check_shapes("mark_positives", object1=(objects[1], objects[0].shape))
    if each:
        check_range("mark_positives", "object0", objects[0], 8 * len(bits) // each)
        check_range("mark_positives", "object1", objects[1], each)
    _call("mark_positives", *objects, len(objects[0]), bits, each, 8 * len(bits))


def draw_negatives(
    rows: Int64,
    positive: npt.NDArray[np.bool_],
    sources: Int64 | int,
    which: tuple[Int32, Int32],
    known: Partners,
    *,
    rate: int,
    seed: int,
    rounds: int,
    give_objects: bool,
) -> tuple[Int64, int]:
    """For n rows (n, 1 + rate): each, and behind it what is drawn for it where it is `positive`, -1 for none.

    Any of so many rows is drawn, or of `sources`, until object which[1] of it is no partner of object which[0] of the
    row, `rounds` times at most. Returns how many were drawn, too. For rows their objects are given where so told.
    """
    check_range("draw_negatives", "rows", rows, len(which[0]))
    check_shapes("draw_negatives", positive=(positive, which[0].shape), objects1=(which[1], which[0].shape))
    if isinstance(sources, int) and sources > len(which[1]):
        raise ValueError(f"draw_negatives: sources is {sources}, wanted {len(which[1])} at most")
    out = np.empty((len(rows), 1 + rate), np.int64)
    among = (None, sources) if isinstance(sources, int) else (sources, len(sources))
    given = rows, len(rows), positive, rate, seed, rounds
    found = _call("draw_negatives", *given, *among, *which, *known, 8 * len(known.bits), give_objects, out)
    return out, found


def beside(rows: Int64, which0: Int32 | None, labels: Float32, drawn: Int64) -> tuple[Int64, Int64, Float32]:
    """Of n rows and what `draw_negatives` gave for them, (n, 1 + rate), the columns of all pairs, without those of -1.

    They are which0[rows], or rows, what was drawn, and the labels: of each row the first has its own, the others 0.
    """
    check_shapes("append_negatives", drawn=(drawn, (len(rows), drawn.shape[-1])))
    check_range("append_negatives", "rows", rows, min(len(labels), len(labels if which0 is None else which0)))
    row0, row1, label = np.empty(drawn.size, np.int64), np.empty(drawn.size, np.int64), np.empty(drawn.size, np.float32)
    given = rows, len(rows), drawn.shape[1] - 1, which0, labels, drawn
    found = _call("append_negatives", *given, row0, row1, label)
    return row0[:found], row1[:found], label[:found]
