"""Unique sequences, numbering, and gathering of sequences."""

from __future__ import annotations

import numpy as np

from object2vec.array_types import Int32, Int64
from object2vec.ops.arguments import call as _call
from object2vec.ops.arguments import (
    check_offsets,
    check_range,
    check_shapes,
)


def distinct(values: Int32, offsets: Int64, which: Int32, first: Int32) -> int:
    """Which of N sequences are the same: into `which` (N,) the number of each one's object, numbered as they come.

    Sequence i is values[offsets[i]:offsets[i + 1]]. Into `first` (N,) goes the first sequence of each object; returns
    how many there are.
    """
    check_offsets("unique_sequences", "offsets", offsets, len(values))
    check_shapes("unique_sequences", inverse=(which, (len(offsets) - 1,)), first_index=(first, (len(offsets) - 1,)))
    at, size, found = 0, 1 << 10, np.zeros(1, np.int64)
    while at < len(which):
        slots = np.full(size, -1, np.int64)
        _call("insert_sequences", values, offsets, first, int(found[0]), slots, size - 1)
        at = _call("unique_sequences", values, offsets, at, len(which), slots, size - 1, which, first, found)
        del slots  # before there is a larger one
        size *= 2
    return int(found[0])


def _check_rows(kernel: str, rows: tuple[Int64, Int64], of: tuple[Int32, Int32]) -> int:
    check_shapes(kernel, rows1=(rows[1], rows[0].shape))
    for side in range(2):
        check_range(kernel, f"rows{side}", rows[side], len(of[side]))
    return len(rows[0])


def number(
    rows: tuple[Int64, Int64], which: tuple[Int32, Int32], luts: tuple[Int32, Int32]
) -> tuple[tuple[Int64, Int64], Int64]:
    """Number the objects which[rows] of n rows a side as they come.

    Returns the first row of each object a side, and the number of each row's object (2, n). `luts` are scratch: one
    int32 an object, all -1 before and after.
    """
    count = _check_rows("unique_rows", rows, which)
    first, place, found = np.empty((2, count), np.int64), np.empty((2, count), np.int64), np.empty(2, np.int64)
    _call("unique_rows", *rows, count, *which, *luts, first, place, found)
    left, right = found.tolist()
    return (first[0, :left], first[1, :right]), place


def number_tokens(
    rows: tuple[Int64, Int64], tokens: tuple[Int32, Int32], luts: tuple[Int32, Int32]
) -> tuple[tuple[Int32, Int32], Int64]:
    """As `number`, where rows are objects of one of `tokens` each: the different tokens of a side, and the numbers."""
    count = _check_rows("unique_tokens", rows, luts)
    _check_rows("unique_tokens", rows, tokens)
    first, place, found = np.empty((2, count), np.int64), np.empty((2, count), np.int64), np.empty(2, np.int64)
    out = np.empty((2, count), np.int32)
    _call("unique_tokens", *rows, count, *tokens, *luts, first, place, found, out)
    left, right = found.tolist()
    return (out[0, :left], out[1, :right]), place


def starts_of(offsets: Int64, index: Int64) -> Int64:
    """Where the n sequences that `index` names, of those with `offsets`, begin one behind the other, (n + 1,)."""
    check_range("sequence_starts", "index", index, len(offsets) - 1)
    starts = np.empty(len(index) + 1, np.int64)
    _call("sequence_starts", offsets, index, len(index), starts)
    return starts


def take(values: Int32, offsets: Int64, index: Int64, starts: Int64) -> Int32:
    """The tokens of the sequences that `index` (n,) names, which are to begin at `starts` (n + 1,)."""
    check_range("take_sequences", "index", index, len(offsets) - 1)
    check_shapes("take_sequences", out_offsets=(starts, (len(index) + 1,)))
    out = np.empty(int(starts[-1]), np.int32)
    done = _call("take_sequences", values, offsets, len(values), index, len(index), starts, out)
    if done < len(index):
        raise ValueError(f"take: sequence {index[done]} is not within the {len(values)} values")
    return out
