"""Read JSON in its plain form: the lines of a training file, and requests."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import numpy as np

from object2vec.array_types import Float64, Int32, Int64
from object2vec.ops import library
from object2vec.ops.arguments import address, addresses, call

#: A shorter text is read in less time than another thread needs to start, so the call keeps the interpreter's lock.
SHORT_TEXT_BYTES = 2**14


class Lines(NamedTuple):
    """The columns of the records of a text, and where reading stopped."""

    values: tuple[Int32, Int32]  # tokens of all records of each side
    lengths: tuple[Int64, Int64]  # tokens of each record
    labels: Float64
    cut: Int64  # records of each side with more tokens than are kept
    lines: int
    consumed: int


def read_lines(text: bytes, max_len: tuple[int, int]) -> Lines:
    """Read records from whole lines, up to the first that is not plain, and keep `max_len` tokens of each side.

    A plain record is `{"in0": [1, 2], "in1": [3], "label": 1.5}`: keys in any order and nothing else, spaces anywhere.
    Without kernels no line is read.
    """
    size = len(text) if library.available() else 0
    values = np.empty(size // 2 + 1, np.int32), np.empty(size // 2 + 1, np.int32)
    rows = size // len('{"in0":[],"in1":[],"label":1}') + 1
    lengths = np.empty(rows, np.int64), np.empty(rows, np.int64)
    labels, truncated, stop = np.empty(rows, np.float64), np.zeros(2, np.int64), np.zeros(2, np.int64)
    columns = addresses("read_lines", values, "int32"), addresses("read_lines", lengths, "int64")
    given = text, size, np.array(max_len, np.int64), *columns, labels, truncated, stop[:1], stop[1:]
    found = call("read_lines", *given) if library.available() else 0
    kept = tuple(column[:found] for column in lengths)
    tokens = tuple(column[: int(length.sum())] for column, length in zip(values, kept, strict=True))
    return Lines((tokens[0], tokens[1]), (kept[0], kept[1]), labels[:found], truncated, int(stop[0]), int(stop[1]))


class RequestColumns(NamedTuple):
    """The columns of a request, for each side: tokens, offsets of its sequences, and the instance of each sequence.

    `raw` has the JSON of a side's values that are no lists, a line for each. Each is an empty sequence.
    """

    values: tuple[Int32, Int32]
    offsets: tuple[Int64, Int64]
    rows: tuple[Int64, Int64]
    numbers: Int64  # the line of each instance, from 1, if the request is lines
    raw: tuple[bytes, bytes]


def read_instances(text: bytes, *, document: bool, raw: bool = False) -> RequestColumns | None:
    """Read a plain request: lines of instances, or a document `{"instances": [...]}`. Return None for another one.

    A plain instance is `{"in0": [1, 2], "in1": [3]}`: one side at least, perhaps a label, spaces anywhere. With `raw`,
    a side may be any value on one line; the caller must check that it is JSON. Without kernels no request is read.
    """
    if not library.available():
        return None
    # An instance begins with a brace and has two lists at most; every token in a list but the first follows a comma.
    max_rows = text.count(b"{") + 2
    max_tokens = text.count(b",") + 2 * max_rows
    size = 6 + 5 * max_rows + max_tokens
    columns = np.empty(size + (len(text) // 4 + 1 if raw else 0), np.int64)
    start = address(columns)
    raw_start = start + size * columns.itemsize
    read = library.functions(ctypes.PyDLL if len(text) < SHORT_TEXT_BYTES else ctypes.CDLL)["read_instances"]
    found = read(text, len(text), document, start, max_rows, max_tokens, raw_start if raw else None)
    if found < 0:
        return None
    left, right, left_tokens, right_tokens, left_bytes, right_bytes = columns[:6].tolist()
    a, b, c, d, numbers, end = range(6, 7 + 5 * max_rows, max_rows)
    values = columns[end:].view(np.int32)
    return RequestColumns(
        (values[:left_tokens], values[max_tokens : max_tokens + right_tokens]),
        (columns[a : a + left + 1], columns[b : b + right + 1]),
        (columns[c : c + left], columns[d : d + right]),
        columns[numbers : numbers + found],
        (ctypes.string_at(raw_start, left_bytes), ctypes.string_at(raw_start + len(text), right_bytes)),
    )
