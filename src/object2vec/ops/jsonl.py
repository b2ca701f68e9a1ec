"""Read the lines of a training file in their plain form."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from object2vec.array_types import Float64, Int32, Int64
from object2vec.ops import library
from object2vec.ops.arguments import addresses, call


class Lines(NamedTuple):
    """The columns of the records of a text, and where reading stopped."""

    values: tuple[Int32, Int32]  # tokens of all records of each side
    lengths: tuple[Int64, Int64]  # tokens of each record
    labels: Float64
    weights: Float64 | None  # None if no record has one
    classes: tuple[Int32, Int64] | None  # classes of all records, and their number, where a record may have several
    cut: Int64  # records of each side with more tokens than are kept
    lines: int
    consumed: int


def read_lines(text: bytes, max_len: tuple[int, int], *, sides: int = 2) -> Lines:
    """Read records from whole lines, up to the first that is not plain, and keep `max_len` tokens of each side.

    A plain record is `{"in0": [1, 2], "in1": [3], "label": 1.5}`: perhaps with a weight, keys in any order and nothing
    else, spaces anywhere.
    Without kernels no line is read. With one of the `sides`, a record has no in1.
    """
    size = len(text) if library.available() else 0
    values = np.empty(size // 2 + 1, np.int32), np.empty(size // 2 + 1, np.int32)
    rows = size // len('{"in0":[],"in1":[],"label":1}' if sides == 2 else '{"in0":[],"label":1}') + 1
    lengths = np.empty(rows, np.int64), (np.empty if sides == 2 else np.zeros)(rows, np.int64)
    labels, weights = np.empty(rows, np.float64), np.empty(rows, np.float64)
    truncated, stop = np.zeros(2, np.int64), np.zeros(3, np.int64)
    columns = addresses("read_lines", values, "int32"), addresses("read_lines", lengths, "int64")
    given = (
        text,
        size,
        sides,
        np.array(max_len, np.int64),
        *columns,
        labels,
        weights,
        stop[2:],
        truncated,
        stop[:1],
        stop[1:2],
    )
    found = call("read_lines", *given) if library.available() else 0
    kept = tuple(column[:found] for column in lengths)
    tokens = tuple(column[: int(length.sum())] for column, length in zip(values, kept, strict=True))
    lines, consumed, weighted = stop.tolist()
    given_weights = weights[:found] if weighted else None
    return Lines(
        (tokens[0], tokens[1]), (kept[0], kept[1]), labels[:found], given_weights, None, truncated, lines, consumed
    )
