"""Columns of Arrow tables as tokens, without a Python step per row.

A column becomes the number of tokens of each row, the code of each token, and the text of each code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Int32, Int64
from object2vec.data.sequences import Sequences
from object2vec.errors import RawValueError
from object2vec.extras import import_extra
from object2vec.ops.text import TextTable, split_pieces
from object2vec.schema.columns import Column, List, Text, Token
from object2vec.schema.text import piece_words
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
    texts: pa.LargeStringArray


def column_codes(column: Column, values: Any) -> Codes:
    """Return the tokens of a column: an Arrow, pandas, polars or numpy array, or a list of Python values.

    Raises:
        RawValueError: a value is not of the column's kind.
    """
    pa, types = import_extra("pyarrow"), import_extra("pyarrow.types")
    array = _arrow_array(values)
    if array is None or types.is_null(array.type):
        return _row_codes(column, values)
    if isinstance(column, Text) and array.type in (pa.string(), pa.large_string()):
        return _text_codes(column, array)
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
    codes = np.fromiter(map(numbers.__getitem__, texts), np.int32, len(texts))
    return Codes(lengths, codes, _large_strings(numbers))


def _large_strings(texts: Iterable[str | None]) -> pa.LargeStringArray:
    pa = import_extra("pyarrow")
    return pa.array(list(texts), pa.large_string())


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
    elif isinstance(column, Text) and column.tokenizer and set(map(type, values)) == {str}:
        "".join(values).encode()
        lists = column.tokenizer.split(values)
        return _lengths(lists), list(chain.from_iterable(lists))
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
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        texts = encoded.dictionary.cast(pa.large_string())
        texts = pc.if_else(pc.equal(texts, ""), None, texts)
    else:
        texts = _large_strings(value_text(value) for value in encoded.dictionary.to_pylist())
    indices = encoded.indices
    if texts.null_count:  # NaN or an empty string
        kept = texts.is_valid().to_numpy(zero_copy_only=False)
        numbers = pa.array(np.cumsum(kept) - 1, pa.int32(), mask=~kept)
        indices = numbers.take(indices)
    lengths = pc.is_valid(indices).to_numpy(zero_copy_only=False).astype(np.int64)
    return Codes(lengths, indices.drop_null().to_numpy(), texts.drop_null())


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
        [numbers.setdefault(part, len(numbers)) for part in texts_of(column, text, column.name)]
        for text in rows.texts.to_pylist()
    ]
    return Codes(*_expand(rows.lengths, rows.codes, Sequences.from_lists(parts)), _large_strings(numbers))


def _text_codes(column: Text, array: pa.Array) -> Codes:
    """Return the words of texts, see `schema.text`."""
    array = array.fill_null("")
    found = None if column.tokenizer else split_pieces(*text_buffers(array))
    return _split_special(*found) if found else _row_codes(column, array.to_pylist())


def text_buffers(array: pa.Array) -> tuple[npt.NDArray[np.uint8], Int64]:
    """Return the text of an array of strings without nulls, and its offsets."""
    import pyarrow as pa

    array = array.cast(pa.large_string())  # a part of an array begins at an offset, which the cast may change
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return np.frombuffer(data or b" ", np.uint8), ends


def _split_special(lengths: Int64, numbers: Int32, pieces: TextTable) -> Codes:
    """Replace pieces that have characters other than ASCII by their words."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text, offsets = pieces.buffers()
    texts = pa.LargeStringArray.from_buffers(len(pieces), pa.py_buffer(offsets), pa.py_buffer(text))
    is_special = ~pc.string_is_ascii(texts).to_numpy(zero_copy_only=False)
    words = [piece_words(piece) for piece in texts.filter(is_special).to_pylist()]
    counts = np.ones(len(texts), np.int64)
    counts[is_special] = [len(found) for found in words]
    codes = np.repeat(np.arange(len(texts), dtype=np.int32), counts)
    new = _large_strings(chain.from_iterable(words))
    codes[np.repeat(is_special, counts)] = np.arange(len(texts), len(texts) + len(new))
    if (counts == 1).all():
        numbers = codes[numbers]
    else:
        lengths, numbers = _expand(lengths, numbers, Sequences.from_lengths(codes, counts))
    return Codes(lengths, numbers, pa.concat_arrays([texts, new]))


def _expand(lengths: Int64, codes: Int32, parts: Sequences) -> tuple[Int64, Int32]:
    """Replace each code of N rows by the codes in its part. Return the length of each row, and all codes."""
    found = parts.take(codes)
    return np.diff(found.offsets[np.append(0, np.cumsum(lengths))]), found.values


def concatenate_rows(parts: Sequence[tuple[Int64, Int32]]) -> Sequences:
    """Concatenate the tokens of each row; each part has the lengths of all rows, and their tokens."""
    sequences = [Sequences.from_lengths(codes, lengths) for lengths, codes in parts]
    if len(parts) == 1:
        return sequences[0]
    order = np.arange(len(parts) * len(sequences[0])).reshape(len(parts), -1).T.ravel()
    found = Sequences.concatenate(sequences).take(order)
    return Sequences(found.values, found.offsets[:: len(parts)].copy())
