"""Unique sequences, unique rows of pairs, and selections of sequences.

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


def unique_sequences(values: Int32, offsets: Int64, inverse: Int32, first_index: Int32) -> int:
    """Assign numbers to the unique sequences, and return how many there are.

    Writes the number of each sequence to `inverse` (N,), and the first sequence of each number to `first_index` (N,).
    Tokens are compared with tokens, so nothing depends on a hash. The kernel numbers by first occurrence.
    """
    if not library.available():
        return _unique_sequences_numpy(values, offsets, inverse, first_index)
    check_offsets("unique_sequences", "offsets", offsets, len(values))
    wanted = (len(offsets) - 1,)
    check_shapes("unique_sequences", inverse=(inverse, wanted), first_index=(first_index, wanted))
    start, size, found = 0, 1 << 10, np.zeros(1, np.int64)
    while start < len(inverse):
        slots = np.full(size, -1, np.int64)
        call("insert_sequences", values, offsets, first_index, int(found[0]), slots, size - 1)
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
    return found


def _as_keys(tokens: Int32) -> npt.NDArray[np.generic]:
    """Return a (rows, length) matrix as (rows,) values that are equal if the rows are."""
    rows, length = tokens.shape
    if length == 0:
        return np.zeros(rows, np.int32)
    if length == 1:
        return tokens[:, 0]
    return np.ascontiguousarray(tokens).view(np.dtype((np.void, 4 * length)))[:, 0]


def unique_rows(rows: Sides64, objects: Sides32, luts: Sides32) -> tuple[Sides64, Sides64]:
    """Assign numbers to the unique objects of P rows a side; row r has the object objects[side][r].

    Returns the first row of each unique object, and the number of each row's object (P,), for both sides. `luts` are
    scratch: one int32 an object, all -1 before and after. The kernel numbers by first occurrence.
    """
    if not library.available():
        return _unique_numpy(rows, (objects[0][rows[0]], objects[1][rows[1]]))
    count = _check_rows("unique_rows", rows, objects)
    first, inverse, found = _outputs(count)
    call("unique_rows", *rows, count, *objects, *luts, first, inverse, found)
    left, right = found.tolist()
    return (first[0, :left], first[1, :right]), (inverse[0], inverse[1])


def unique_tokens(rows: Sides64, tokens: Sides32, luts: Sides32) -> tuple[Sides32, Sides64]:
    """Assign numbers to the unique rows of each side; row r is an object of one token, tokens[side][r].

    Returns the tokens of the unique rows, and the number of each row (P,), for both sides. `luts` as in `unique_rows`.
    """
    if not library.available():
        (left_rows, right_rows), numbers = _unique_numpy(rows, rows)
        return (tokens[0][left_rows], tokens[1][right_rows]), numbers
    count = _check_rows("unique_tokens", rows, luts)
    _check_rows("unique_tokens", rows, tokens)
    first, inverse, found = _outputs(count)
    out = np.empty((2, count), np.int32)
    call("unique_tokens", *rows, count, *tokens, *luts, first, inverse, found, out)
    left, right = found.tolist()
    return (out[0, :left], out[1, :right]), (inverse[0], inverse[1])


def _check_rows(kernel: str, rows: Sides64, columns: Sides32) -> int:
    check_shapes(kernel, rows1=(rows[1], rows[0].shape))
    for side in range(2):
        check_range(kernel, f"rows{side}", rows[side], len(columns[side]))
    return len(rows[0])


def _outputs(count: int) -> tuple[Int64, Int64, Int64]:
    return np.empty((2, count), np.int64), np.empty((2, count), np.int64), np.empty(2, np.int64)


def _unique_numpy(rows: Sides64, objects: tuple[npt.NDArray[np.integer], ...]) -> tuple[Sides64, Sides64]:
    (first0, inverse0), (first1, inverse1) = (
        np.unique(side, return_index=True, return_inverse=True)[1:] for side in objects
    )
    return (rows[0][first0], rows[1][first1]), (inverse0, inverse1)


def take(values: Int32, offsets: Int64, index: Int64) -> tuple[Int32, Int64]:
    """Return the sequences that `index` names, in its order, as values and offsets."""
    if library.available():
        check_range("take_sequences", "index", index, len(offsets) - 1)
    lengths = offsets[index + 1] - offsets[index]
    starts = np.zeros(len(index) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    if library.available():
        return _take_first(values, offsets, index, starts), starts
    shift = np.repeat(offsets[index] - starts[:-1], lengths)
    return values[shift + np.arange(starts[-1])], starts


def truncate(values: Int32, offsets: Int64, max_len: int) -> tuple[Int32, Int64]:
    """Return the first `max_len` tokens of each sequence, as values and offsets."""
    starts = np.concatenate([[0], np.cumsum(np.minimum(np.diff(offsets), max_len))])
    if library.available():
        return _take_first(values, offsets, np.arange(len(starts) - 1), starts), starts
    return values[within_max_len(offsets, max_len)], starts


def within_max_len(offsets: Int64, max_len: int) -> npt.NDArray[np.bool_]:
    """Return which of the values are among the first `max_len` of their sequence, (tokens,)."""
    starts, ends = offsets[:-1], offsets[1:]
    steps = np.zeros(int(offsets[-1]) + 1, np.int8)  # a byte a token: there may be millions
    np.add.at(steps, starts, 1)
    np.subtract.at(steps, np.minimum(starts + max_len, ends), 1)
    return np.cumsum(steps, dtype=np.int8, out=steps)[:-1].view(np.bool_)


def _take_first(values: Int32, offsets: Int64, index: Int64, starts: Int64) -> Int32:
    """Return the first starts[j + 1] - starts[j] tokens of each sequence index[j]."""
    out = np.empty(int(starts[-1]), np.int32)
    done = call("take_sequences", values, offsets, len(values), index, len(index), starts, out)
    if done < len(index):
        raise ValueError(f"take_sequences: sequence {index[done]} is not within the {len(values)} values")
    return out
