"""Unique sequences, and unique rows of pairs.

N sequences of token ids are two arrays: sequence i is values[offsets[i]:offsets[i + 1]], with offsets (N + 1,).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Int32, Int64
from object2vec.ops import library
from object2vec.ops.arguments import call, check_offsets, check_range, check_shapes

Sides32 = tuple[Int32, Int32]
Sides64 = tuple[Int64, Int64]
#: Fewer tokens are taken faster without the kernel.
MIN_TAKEN = 2**10


def unique_sequences(values: Int32, offsets: Int64, inverse: Int32, first_index: Int32) -> int:
    """Assign numbers to the unique sequences by first occurrence, and return how many there are.

    Writes the number of each sequence to `inverse` (N,), and the first sequence of each number to `first_index` (N,).
    Tokens are compared with tokens, so nothing depends on a hash.
    """
    if not library.available():
        return _unique_sequences_numpy(values, offsets, inverse, first_index)
    check_offsets("unique_sequences", "offsets", offsets, len(values))
    wanted = (len(offsets) - 1,)
    check_shapes("unique_sequences", inverse=(inverse, wanted), first_index=(first_index, wanted))
    start, size, found = 0, 1 << 10, np.zeros(1, np.int64)
    while start < len(inverse):
        slots = np.full(size, -1, np.int64)
        given = values, offsets, start, len(inverse), slots, size - 1
        start = call("unique_sequences", *given, inverse, first_index, found)
        del slots  # before there is a larger one
        size *= 2
    return int(found[0])


def _unique_sequences_numpy(values: Int32, offsets: Int64, inverse: Int32, first_index: Int32) -> int:
    found, lengths = 0, np.diff(offsets)
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        keys = _as_keys(values[offsets[rows, None] + np.arange(length)])
        _, first, number = np.unique(keys, return_index=True, return_inverse=True)
        inverse[rows] = found + number
        first_index[found : found + len(first)] = rows[first]
        found += len(first)
    order = np.argsort(first_index[:found])
    first_index[:found] = first_index[order]
    inverse[:] = np.argsort(order)[inverse]
    return found


def _as_keys(tokens: Int32) -> npt.NDArray[np.generic]:
    """Return a (rows, length) matrix as (rows,) values that are equal if the rows are."""
    rows, length = tokens.shape
    if length == 0:
        return np.zeros(rows, np.int32)
    if length == 1:
        return tokens[:, 0]
    return np.ascontiguousarray(tokens).view(np.dtype((np.void, 4 * length)))[:, 0]


def take_sequences(values: Int32, offsets: Int64, index: Int64) -> tuple[Int32, Int64]:
    """Return the values and offsets of the sequences at `index` (M,)."""
    starts, stops = offsets[index], offsets[index + 1]
    taken = np.append(0, np.cumsum(stops - starts))
    if taken[-1] < MIN_TAKEN or not library.available():
        return values[np.repeat(starts - taken[:-1], stops - starts) + np.arange(taken[-1])], taken
    check_offsets("take_sequences", "taken", taken, int(taken[-1]))
    for name, bounds in (("starts", starts), ("stops", stops)):
        check_range("take_sequences", name, bounds, len(values) + 1)
    found = np.empty(int(taken[-1]), np.int32)
    call("take_sequences", values, starts, stops, taken, len(starts), found)
    return found, taken


def unique_rows(rows: Sides64, objects: Sides32 | None, luts: Sides32) -> tuple[Sides64, Sides64]:
    """Assign numbers to the unique objects of P rows a side; row r has the object objects[side][r], or r.

    Returns the first row of each unique object, and the number of each row's object (P,), for both sides. `luts` are
    scratch: one int32 an object, all -1 before and after. The kernel numbers by first occurrence.
    """
    if not library.available():
        return _unique_rows_numpy(rows, objects)
    count = len(rows[0])
    check_shapes("unique_rows", rows1=(rows[1], rows[0].shape))
    for side in range(2):
        check_range("unique_rows", f"rows{side}", rows[side], len((objects or luts)[side]))
    first, inverse, found = np.empty((2, count), np.int64), np.empty((2, count), np.int64), np.empty(2, np.int64)
    call("unique_rows", *rows, count, *(objects or (None, None)), *luts, first, inverse, found)
    left, right = found.tolist()
    return (first[0, :left], first[1, :right]), (inverse[0], inverse[1])


def _unique_rows_numpy(rows: Sides64, objects: Sides32 | None) -> tuple[Sides64, Sides64]:
    keys = rows if objects is None else (objects[0][rows[0]], objects[1][rows[1]])
    (first0, inverse0), (first1, inverse1) = (
        np.unique(side, return_index=True, return_inverse=True)[1:] for side in keys
    )
    return (rows[0][first0], rows[1][first1]), (inverse0, inverse1)
