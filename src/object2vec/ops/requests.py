"""Read requests in their plain form: token ids and raw values in JSON, and raw values in CSV."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Int32, Int64
from object2vec.ops import library
from object2vec.ops.arguments import address
from object2vec.ops.text import TextTable

#: A shorter text is read in less time than another thread needs to start, so the call keeps the interpreter's lock.
SHORT_TEXT_BYTES: Final = 2**14
#: Constants of `csrc/api.h`.
MAX_COLUMNS: Final = 64
NO_SIDE: Final = -2
KINDS: Final = ("token", "list", "text", "other")


def can_read_raw_values(columns: Sequence[int]) -> bool:
    """Return whether kernels can read raw values of sides with these numbers of columns."""
    return library.available() and max(columns) <= MAX_COLUMNS


class ValueColumn(NamedTuple):
    """A column of raw values: its known values and their ids. Raw values of the kind `other` are not read."""

    name: str
    kind: str
    unknown_id: int
    values: TextTable | None = None
    ids: Int32 | None = None
    separator: str = ""


class ValueTables:
    """The known values of both sides, each with at most `MAX_COLUMNS` columns, where kernels find them.

    Nothing changes them, so any number of threads can read them.
    """

    def __init__(self, sides: Sequence[Sequence[ValueColumn]]) -> None:
        structs = library.structs()
        self._parts: list[object] = []  # what the structs have the addresses of
        self.sides = (structs["ValueSide"] * 2)()
        for side, columns in zip(self.sides, sides, strict=True):
            found = (structs["ValueColumn"] * len(columns))()
            for struct, column in zip(found, columns, strict=True):
                self._fill(struct, column)
            self._parts.append(found)
            side.columns, side.count = ctypes.addressof(found), len(columns)

    def _fill(self, struct: ctypes.Structure, column: ValueColumn) -> None:
        name, separator = column.name.encode(), column.separator.encode()
        arrays: dict[str, npt.NDArray[Any]] = {
            "name": np.frombuffer(name, np.uint8),
            "separator": np.frombuffer(separator, np.uint8),
        }
        if column.values is not None and column.ids is not None:
            slots, pieces, starts = column.values.arrays()
            arrays |= {"slots": slots, "pieces": pieces, "starts": starts, "ids": column.ids}
            struct.mask = len(slots) - 1
        for key, array in arrays.items():
            self._parts.append(array)
            setattr(struct, key, array.ctypes.data)
        struct.name_size, struct.separator_size = len(name), len(separator)
        struct.kind, struct.unknown_id = KINDS.index(column.kind), column.unknown_id


class RequestColumns(NamedTuple):
    """The columns of a request, for each side: tokens, offsets of its sequences, and the instance of each sequence.

    `raw_counts` are the numbers of raw values, and `unknown_counts` those of their unknown ids. The empty sequences at
    `missing` are raw values that were not read. `missing_text` has them as they are written, each with a newline.
    """

    values: tuple[Int32, Int32]
    offsets: tuple[Int64, Int64]
    rows: tuple[Int64, Int64]
    numbers: Int64  # the line of each instance, from 1, if the request is lines
    raw_counts: tuple[int, int]
    unknown_counts: tuple[int, int]
    missing: tuple[Int64, Int64]
    missing_text: tuple[bytes, bytes]


def read_instances(text: bytes, *, document: bool, tables: ValueTables | None = None) -> RequestColumns | None:
    """Read a plain request: lines of instances, or a document `{"instances": [...]}`. Return None for another one.

    A plain instance is `{"in0": [1, 2], "in1": [3]}`: one side at least, perhaps a label, spaces anywhere. With
    `tables`, the text is UTF-8 and a side may be any value on one line; the caller must check that those that are
    missing are JSON. Without kernels no request is read.
    """
    # An instance begins with a brace and has two lists at most; every token in a list but the first follows a comma.
    max_rows = text.count(b"{") + 2
    max_tokens = _max_raw_tokens(text, max_rows) if tables else text.count(b",") + 2 * max_rows
    return _read("read_instances", text, (document,), tables, max_rows, max_tokens)


def read_csv(text: bytes, line: int, field_count: int, places: Int64, tables: ValueTables) -> RequestColumns | None:
    """Read a request in CSV, UTF-8, whose first line has the number `line`. Return None for an unusual one.

    `places`, (2, MAX_COLUMNS), has the field of each column of each side, or -1; or first `NO_SIDE` if the request does
    not have the side.
    """
    max_rows = text.count(b"\n") + 3
    arguments = line, field_count, address(places)
    return _read("read_csv", text, arguments, tables, max_rows, _max_raw_tokens(text, max_rows))


def _max_raw_tokens(text: bytes, max_rows: int) -> int:
    """Return the most tokens that a side can have: two tokens of a value have a character between them."""
    return len(text) // 2 + max_rows + 1


def _read(
    kernel: str, text: bytes, arguments: Sequence[int], tables: ValueTables | None, max_rows: int, max_tokens: int
) -> RequestColumns | None:
    if not library.available():
        return None
    size = 12 + 7 * max_rows + max_tokens
    text_size = len(text) + 1 if tables else 0
    columns = np.empty(size + text_size // 4 + 1, np.int64)
    start = address(columns)
    read = library.functions(ctypes.PyDLL if len(text) < SHORT_TEXT_BYTES else ctypes.CDLL)[kernel]
    sides = tables and ctypes.addressof(tables.sides)
    found = read(text, len(text), *arguments, sides, start, max_rows, max_tokens)
    if found < 0:
        return None
    left, right, left_tokens, right_tokens, a, b, left_missing, right_missing, c, d, e, f = columns[:12].tolist()
    places = range(12, 13 + 7 * max_rows, max_rows)
    values = columns[places[7] :].view(np.int32)
    raw = start + size * columns.itemsize
    return RequestColumns(
        (values[:left_tokens], values[max_tokens : max_tokens + right_tokens]),
        (columns[places[0] :][: left + 1], columns[places[1] :][: right + 1]),
        (columns[places[2] :][:left], columns[places[3] :][:right]),
        columns[places[6] :][:found],
        (a, b),
        (e, f),
        (columns[places[4] :][:left_missing], columns[places[5] :][:right_missing]),
        (ctypes.string_at(raw, c), ctypes.string_at(raw + text_size, d)),
    )
