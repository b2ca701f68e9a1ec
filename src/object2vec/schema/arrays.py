"""Columns of Arrow tables as tokens, without a Python step per row.

A column becomes the number of tokens of each row, the code of each token, and the text of each code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from object2vec.array_types import Int32, Int64
from object2vec.errors import RawValueError
from object2vec.extras import import_for_tables
from object2vec.schema.columns import Column, List, Text, Token
from object2vec.schema.text import LOWER_BYTES, PIECE_BYTES, SEPARATOR_BYTES, piece_words
from object2vec.schema.values import value_text

if TYPE_CHECKING:
    import pyarrow as pa

#: Types of Python objects that Arrow converts as `value_text` does. It would convert a mixture differently.
_ARROW_TYPES: Final = frozenset({str, int, float})


@dataclass(frozen=True, slots=True)
class Codes:
    """The tokens of N rows: `lengths` (N,), then `codes` (tokens,), which index `texts`; some texts have no token."""

    lengths: Int64
    codes: Int32
    texts: Sequence[str]


def column_codes(column: Column, values: Any) -> Codes:
    """Return the tokens of a column: an Arrow, pandas, polars or numpy array, or a list of Python values.

    Raises:
        RawValueError: a value is not of the column's kind.
    """
    pa, types = import_for_tables("pyarrow"), import_for_tables("pyarrow.types")
    array = _arrow_array(values)
    if array is None or types.is_null(array.type):
        return _row_codes(column, values)
    if isinstance(column, Text) and array.type in (pa.string(), pa.large_string()):
        return _text_codes(array)
    is_list = types.is_list(array.type) or types.is_large_list(array.type) or types.is_fixed_size_list(array.type)
    if isinstance(column, List) and is_list and not types.is_nested(array.type.value_type):
        return _list_codes(array)
    if isinstance(column, Text) or types.is_nested(array.type):
        return _row_codes(column, array.to_pylist())
    tokens = _token_codes(array)
    return _split_codes(column, tokens) if isinstance(column, List) else tokens


def _arrow_array(values: Any) -> pa.Array | None:
    """Return values as one Arrow array, None for Python objects of other or several types."""
    import pyarrow as pa

    if hasattr(values, "to_arrow"):  # polars
        values = values.to_arrow()
    if isinstance(values, list | tuple) or str(getattr(values, "dtype", "")) == "object":
        kinds = {type(value) for value in values if value is not None}
        if len(kinds) != 1 or not kinds <= _ARROW_TYPES:
            return None
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        try:
            values = pa.array(values, from_pandas=True)
        except (pa.ArrowInvalid, UnicodeEncodeError, OverflowError):  # more than 64 bits, or not Unicode
            return None
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values.dictionary_decode() if isinstance(values, pa.DictionaryArray) else values


def _row_codes(column: Column, values: Iterable[Any]) -> Codes:
    """Return the tokens of Python values."""
    lengths, texts = row_texts(column, list(values), lambda row: f"{column.name}[{row}]")
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    return Codes(lengths, np.fromiter(map(numbers.__getitem__, texts), np.int32, len(texts)), list(numbers))


def row_texts(column: Column, values: Sequence[Any], name: Callable[[int], str]) -> tuple[Int64, Sequence[str]]:
    """Return the number of texts of each Python value, and all texts. `name` names a value in an error message.

    Raises:
        RawValueError: a value is not of the column's kind.
    """
    try:
        found = _uniform_texts(column, values)
        if found is None:
            lists = list(map(column.texts, values))
            found = _lengths(lists), list(chain.from_iterable(lists))
        return found
    except ValueError:
        for row, value in enumerate(values):
            texts_of(column, value, name(row))
        raise


def _uniform_texts(column: Column, values: Sequence[Any]) -> tuple[Int64, Sequence[str]] | None:
    """Return what `row_texts` does if all values are strings or integers, or lists of them; None for others."""
    if isinstance(column, Token):
        lengths = np.ones(len(values), np.int64)
    elif isinstance(column, List) and set(map(type, values)) == {list}:
        lengths, values = _lengths(values), list(chain.from_iterable(values))
    else:
        return None
    kinds = set(map(type, values))
    if kinds == {int}:
        return lengths, list(map(str, values))
    if kinds != {str} or "" in values:
        return None
    "".join(values).encode()  # ValueError if one is not Unicode
    return lengths, values


def _lengths(lists: Sequence[Sequence[Any]]) -> Int64:
    return np.fromiter(map(len, lists), np.int64, len(lists))


def texts_of(column: Column, value: Any, where: str) -> Sequence[str]:
    """Return the texts of a raw value; `where` begins an error message.

    Raises:
        RawValueError: the value is not of the column's kind.
    """
    try:
        return column.texts(value)
    except ValueError as error:
        raise RawValueError(f"{where} is {error}, wanted {column.wanted}") from error


def _token_codes(array: pa.Array) -> Codes:
    """Return the tokens of a column with one value per row; a missing value has no token."""
    import pyarrow as pa
    import pyarrow.compute as pc

    encoded = array.dictionary_encode()
    values = encoded.dictionary.to_pylist()
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        texts = [value or None for value in values] if "" in values else values
    else:
        texts = [value_text(value) for value in values]
    indices = encoded.indices
    if None in texts:  # NaN or an empty string
        kept = np.array([text is not None for text in texts])
        numbers = pa.array(np.cumsum(kept) - 1, pa.int32(), mask=~kept)
        indices = numbers.take(indices)
    lengths = pc.is_valid(indices).to_numpy(zero_copy_only=False).astype(np.int64)
    return Codes(lengths, indices.drop_null().to_numpy(), [text for text in texts if text is not None])


def _list_codes(array: pa.Array) -> Codes:
    """Return the tokens of a column of lists."""
    import pyarrow.compute as pc

    counts = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    tokens = _token_codes(array.flatten())
    rows = np.repeat(np.arange(len(counts)), counts)[tokens.lengths > 0]
    return Codes(np.bincount(rows, minlength=len(counts)), tokens.codes, tokens.texts)


def _split_codes(column: List, rows: Codes) -> Codes:
    """Split each text at the separator of its column."""
    numbers: dict[str, int] = {}
    parts = [
        [numbers.setdefault(part, len(numbers)) for part in texts_of(column, text, column.name)] for text in rows.texts
    ]
    lengths, codes = expand(rows.codes, parts)
    counts = np.zeros(len(rows.lengths), np.int64)
    counts[rows.lengths > 0] = lengths
    return Codes(counts, codes, list(numbers))


def _text_codes(array: pa.Array) -> Codes:
    """Return the words of texts, see `schema.text`."""
    import pyarrow as pa

    array = array.cast(pa.large_string()).fill_null("")
    _, offsets_buffer, data_buffer = array.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    start = int(offsets[0])
    offsets = offsets - offsets[0]
    text = data_buffer.slice(start, offsets[-1]).to_pybytes() if data_buffer else b""
    in_piece = np.frombuffer(text.translate(PIECE_BYTES), np.bool_)
    is_start = in_piece.copy()
    is_start[1:] &= ~in_piece[:-1]
    row_starts = offsets[:-1][offsets[:-1] < len(text)]
    is_start[row_starts] = in_piece[row_starts]
    lengths = np.diff(np.searchsorted(np.flatnonzero(is_start), offsets))
    pieces = text.translate(LOWER_BYTES, SEPARATOR_BYTES)
    starts = np.append(np.flatnonzero(is_start[in_piece]), len(pieces))
    words = pa.LargeStringArray.from_buffers(len(starts) - 1, pa.py_buffer(starts), pa.py_buffer(pieces))
    encoded = words.dictionary_encode()
    return _split_pieces(Codes(lengths, encoded.indices.to_numpy(), encoded.dictionary.to_pylist()))


def _split_pieces(pieces: Codes) -> Codes:
    """Replace pieces that have characters other than ASCII by their words."""
    texts = list(pieces.texts)
    special = [code for code, text in enumerate(texts) if not text.isascii()]
    words = [piece_words(texts[code]) for code in special]
    if all(len(found) == 1 for found in words):
        for code, found in zip(special, words, strict=True):
            texts[code] = found[0]
        return Codes(pieces.lengths, pieces.codes, texts)
    parts: list[Sequence[int]] = [(code,) for code in range(len(texts))]
    for code, found in zip(special, words, strict=True):
        parts[code] = range(len(texts), len(texts) + len(found))
        texts += found
    counts, codes = expand(pieces.codes, parts)
    ends = np.cumsum(pieces.lengths)
    totals = np.append(0, np.cumsum(counts))
    return Codes(totals[ends] - totals[ends - pieces.lengths], codes, texts)


def expand(codes: Int32, parts: Sequence[Sequence[int]]) -> tuple[Int64, Int32]:
    """Replace each code by the codes in its part. Return the length of each, and all of them."""
    lengths = _lengths(parts)
    flat = np.fromiter(chain.from_iterable(parts), np.int32, int(lengths.sum()))
    starts = np.cumsum(lengths) - lengths
    found = lengths[codes]
    shift = np.repeat(starts[codes] - (np.cumsum(found) - found), found)
    return found, flat[shift + np.arange(len(shift))]


def concatenate_rows(parts: Sequence[tuple[Int64, Int32]]) -> tuple[Int64, Int32]:
    """Concatenate the tokens of each row; each part has the lengths of all rows, and their tokens."""
    if len(parts) == 1:
        return parts[0]
    totals: Int64 = np.sum([lengths for lengths, _ in parts], axis=0, dtype=np.int64)
    starts: Int64 = np.cumsum(totals) - totals
    out: Int32 = np.empty(int(totals.sum()), np.int32)
    for lengths, codes in parts:
        own = np.cumsum(lengths) - lengths
        out[np.repeat(starts - own, lengths) + np.arange(len(codes))] = codes
        starts = starts + lengths
    return totals, out
