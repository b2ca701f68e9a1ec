"""Text to numbered words, and pairs to text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Int32, Int64
from object2vec.ops import library
from object2vec.ops.arguments import call, check_offsets, check_range, check_shapes

UInt8 = npt.NDArray[np.uint8]
#: Entries of the first hash table of texts that are numbered in parts, and of pieces.
MIN_SLOTS = 2**10
PIECE_SLOTS = 2**18


class TextTable:
    """Numbers texts by first occurrence.

    N texts are two arrays: text i is the UTF-8 `text[offsets[i]:offsets[i + 1]]`, with `offsets` (N + 1,).
    """

    def __init__(self, slots: int = MIN_SLOTS) -> None:
        self._slots = np.full(slots, -1, np.int64)
        self._starts = np.zeros(slots // 2 + 1, np.int64)
        self._text = np.empty(8, np.uint8)
        self._count = 0
        self._numbers: dict[bytes, int] = {}  # in place of all others, without kernels

    def __len__(self) -> int:
        return self._count or len(self._numbers)

    @classmethod
    def from_texts(cls, texts: Sequence[str]) -> TextTable:
        """Return a table of texts that are unique and not empty."""
        table = cls(1 << (2 * len(texts) + 2).bit_length())
        if texts:
            encoded = [text.encode() for text in texts]
            ends = np.fromiter(accumulate(map(len, encoded), initial=0), np.int64, len(texts) + 1)
            table.number(np.frombuffer(b"".join(encoded), np.uint8), ends)
        return table

    def arrays(self) -> tuple[Int64, UInt8, Int64]:
        """Return the hash table, the texts and their offsets, for kernels that look texts up."""
        return self._slots, self._text, self._starts

    def texts(self) -> list[str]:
        """Return the texts by number."""
        text, ends = self.buffers()
        characters, stops = text.tobytes(), ends.tolist()
        return [characters[start:stop].decode() for start, stop in pairwise(stops)]

    def buffers(self) -> tuple[UInt8, Int64]:
        """Return the texts by number, as text and offsets."""
        if self._numbers:
            ends = np.cumsum([0, *map(len, self._numbers)])
            return np.frombuffer(b"".join(self._numbers), np.uint8), ends
        return self._text[: self._starts[self._count]], self._starts[: self._count + 1]

    def number(self, text: UInt8, offsets: Int64) -> Int32:
        """Return the numbers of texts that are not empty, (N,)."""
        if not library.available():
            parts = [text[start:stop].tobytes() for start, stop in pairwise(offsets)]
            return np.array([self._numbers.setdefault(part, len(self._numbers)) for part in parts], np.int32)
        size = 2 * len(self._slots)
        while size < 4 * (self._count + len(offsets)):
            size *= 2
        if 2 * (self._count + len(offsets)) > len(self._slots):
            larger = TextTable(size)
            larger._insert(*self.buffers(), is_split=False)
            self._slots, self._starts, self._text = larger._slots, larger._starts, larger._text
        return self._insert(text, offsets, is_split=False)[1]

    def _insert(self, text: UInt8, offsets: Int64, *, is_split: bool) -> tuple[Int64, Int32]:
        """Return the pieces of each text, and their numbers; the table is then incomplete if it is too small."""
        count, size = check_offsets("number_pieces", "offsets", offsets, len(text)), int(offsets[-1] - offsets[0])
        used = int(self._starts[self._count])
        if used + size + 8 > len(self._text):
            self._text = np.append(self._text[:used], np.empty(used + size + 8, np.uint8))
        lengths = np.empty(count, np.int64)
        codes = np.empty((size // 2 if is_split else 0) + count + 1, np.int32)
        table = self._slots, len(self._slots) - 1, self._count
        self._count = call(
            "number_pieces", text, offsets, count, is_split, *table, lengths, codes, self._text, self._starts
        )
        return lengths, codes[: int(lengths.sum())]


def split_pieces(text: UInt8, offsets: Int64) -> tuple[Int64, Int32, TextTable] | None:
    """Split N texts into runs of letters, digits, underscores and other than ASCII characters.

    Returns the number of pieces of each text, the number of each piece, and the pieces, in lower case (ASCII).
    Without kernels the result is None.
    """
    slots = PIECE_SLOTS
    while library.available():
        table = TextTable(slots)
        lengths, codes = table._insert(text, offsets, is_split=True)
        if table._count >= 0:
            return lengths, codes, table
        slots *= 4
    return None


def write_lines(
    values: tuple[Int32, Int32], offsets: tuple[Int64, Int64], label_codes: Int32, labels: Sequence[str]
) -> memoryview:
    """Return a line like `{"in0":[1,2],"in1":[3],"label":1}` for each of N pairs.

    Pair i has the ids values[side][offsets[side][i]:offsets[side][i + 1]], and the label labels[label_codes[i]].
    """
    if not library.available():
        return _write_lines_python(values, offsets, label_codes, labels)
    count, widest = len(label_codes), max(map(len, labels), default=0)
    for side in (0, 1):
        check_offsets("write_lines", f"offsets{side}", offsets[side], len(values[side]))
        check_shapes("write_lines", **{f"offsets{side}": (offsets[side], (count + 1,))})
    check_range("write_lines", "label_codes", label_codes, len(labels))
    ends = np.cumsum([0, *map(len, labels)])
    out = np.empty((29 + widest) * count + 11 * sum(map(len, values)), np.uint8)
    columns = values[0], offsets[0], values[1], offsets[1]
    return out[: call("write_lines", *columns, count, label_codes, "".join(labels).encode(), ends, out)].data


def _write_lines_python(
    values: tuple[Int32, Int32], offsets: tuple[Int64, Int64], label_codes: Int32, labels: Sequence[str]
) -> memoryview:
    first, second = (np.split(ids, ends[1:-1]) for ids, ends in zip(values, offsets, strict=True))
    rows = zip(first, second, label_codes, strict=False)
    lines = (f'{{"in0":{in0.tolist()},"in1":{in1.tolist()},"label":{labels[code]}}}\n' for in0, in1, code in rows)
    return memoryview("".join(lines).replace(" ", "").encode())
