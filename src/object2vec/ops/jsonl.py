"""Read JSON in its plain form: the lines of a training file, and requests."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import numpy as np

from object2vec.array_types import Float64, Int32, Int64
from object2vec.ops.arguments import address, addresses
from object2vec.ops.arguments import call as _call
from object2vec.ops.library import functions

#: A text that is shorter, in bytes, is read in less time than another thread needs to begin.
BRIEF = 2**14


class Lines(NamedTuple):
    """What `read_lines` made of a text: columns of its records, and where it stopped."""

    values: tuple[Int32, Int32]  # the tokens of all records, a side each
    lengths: tuple[Int64, Int64]  # tokens of each record
    labels: Float64
    cut: Int64  # records with more than the most tokens, a side each
    lines: int
    consumed: int


def read_lines(text: bytes, most: tuple[int, int]) -> Lines:
    """Read records in the plain form from whole lines, as far as they are plain; `most` tokens a side are kept.

    Plain is `{"in0": [1, 2], "in1": [3], "label": 1.5}` with its keys in any order and nothing else, spaces anywhere.
    """
    size = len(text)
    values = np.empty(size // 2 + 1, np.int32), np.empty(size // 2 + 1, np.int32)
    rows = size // len('{"in0":[],"in1":[],"label":1}') + 1
    lengths = np.empty(rows, np.int64), np.empty(rows, np.int64)
    labels, cut, stop = np.empty(rows, np.float64), np.zeros(2, np.int64), np.zeros(2, np.int64)
    bounds = np.array(most, np.int64)
    columns = addresses("read_lines", values, "int32"), addresses("read_lines", lengths, "int64")
    found = _call("read_lines", text, size, bounds, *columns, labels, cut, stop[:1], stop[1:])
    kept = tuple(column[:found] for column in lengths)
    tokens = tuple(column[: int(length.sum())] for column, length in zip(values, kept, strict=True))
    return Lines((tokens[0], tokens[1]), (kept[0], kept[1]), labels[:found], cut, int(stop[0]), int(stop[1]))


class Sides(NamedTuple):
    """What `read_instances` made of a request: for each side the tokens, where each sequence begins, whose it is."""

    values: tuple[Int32, Int32]
    offsets: tuple[Int64, Int64]  # one more than sequences, from 0
    rows: tuple[Int64, Int64]  # which instance has a sequence
    numbers: Int64  # of the line of each instance, from 1, where the request is lines


def read_instances(text: bytes, *, document: bool) -> Sides | None:
    """Read a request in the plain form: lines of instances, or a document `{"instances": [...]}`. None if it is not.

    Plain is `{"in0": [1, 2], "in1": [3]}`, one side at least, perhaps a label, and nothing else, spaces anywhere.
    """
    # An instance begins with a brace and has two lists at most; every token in a list but the first follows a comma.
    most = text.count(b"{") + 2
    tokens = text.count(b",") + 2 * most
    places = np.empty(4 + 5 * most + tokens, np.int64)
    read = functions(ctypes.PyDLL if len(text) < BRIEF else ctypes.CDLL)["read_instances"]
    found = read(text, len(text), document, address(places), most, tokens)
    if found < 0:
        return None
    left, right, left_tokens, right_tokens = places[:4].tolist()
    a, b, c, d, numbers, end = range(4, 5 + 5 * most, most)
    values = places[end:].view(np.int32)
    return Sides(
        (values[:left_tokens], values[tokens : tokens + right_tokens]),
        (places[a : a + left + 1], places[b : b + right + 1]),
        (places[c : c + left], places[d : d + right]),
        places[numbers : numbers + found],
    )
