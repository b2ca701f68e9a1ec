"""Parse JSON Lines into columns, and describe the error in a line that is not a record."""

from __future__ import annotations

import gc
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import orjson

from object2vec.array_types import Int32, Int64
from object2vec.data.files import HEAD_BYTES, UTF8_BOM, describe_encoding, describe_format
from object2vec.errors import DataError, shortened
from object2vec.hyperparameters import Hyperparameters
from object2vec.ops import jsonl as jsonl_ops
from object2vec.ops.jsonl import Lines
from object2vec.ops.sequences import truncate

Side = Literal["in0", "in1"]
SIDES: Final[tuple[Side, ...]] = get_args(Side)
#: The boundary of two records on one line: files were concatenated without a line break.
RECORD_BOUNDARY: Final = re.compile(rb"(?<=\})(?:%b)*(?=\{)" % UTF8_BOM)
#: Byte order marks at either end of a line; concatenated files may be empty.
BOMS_AROUND: Final = re.compile(rb"^(?:%b)+|(?:%b)+\s*$" % (UTF8_BOM, UTF8_BOM))
#: A value between two records that no line contains.
SEPARATOR: Final = b"between two records of object2vec"
EXPECTED_RECORD: Final = 'wanted an object like {"in0": [1, 2], "in1": [3], "label": 1}'


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines of a file. `first_line` is the number of the first one, counted from 1."""

    file: Path
    first_line: int
    text: bytes

    def line_of(self, record: int) -> int:
        """Return the line number of a record of this chunk, counted from 0."""
        return next(islice(_records(self), record, None))[0]


class RecordReader:
    """Parses chunks into columns, and checks ids and labels against the hyperparameters."""

    def __init__(self, hyperparameters: Hyperparameters) -> None:
        self.hyperparameters = hyperparameters
        self.max_len = (hyperparameters.encoders[0].max_seq_len, hyperparameters.encoders[1].max_seq_len)

    def read(self, chunk: Chunk) -> list[Lines]:
        """Return the records of a chunk, in one or two parts.

        Raises:
            DataError: a line is not a record, or holds a value out of range; names the first such line.
        """
        parts = [jsonl_ops.read_lines(chunk.text, self.max_len)]
        self._check(parts[0], chunk)
        rest = Chunk(chunk.file, chunk.first_line + parts[0].lines, chunk.text[parts[0].consumed :])
        if rest.text:
            parts.append(_read_any(rest, self))
            self._check(parts[-1], rest)
        return parts

    def check_first(self, chunk: Chunk) -> bool:
        """Check the first record of a chunk, without kernels. Return False if there is none.

        Raises:
            DataError: see `read`.
        """
        for line, text in _records(chunk):
            first = Chunk(chunk.file, line, text)
            self._check(_read_any(first, self), first)
            return True
        return False

    def _check(self, lines: Lines, chunk: Chunk) -> None:
        for side in (0, 1):
            tokens = lines.values[side]
            invalid = (tokens < 0) | (tokens >= self.hyperparameters.encoders[side].vocab_size)
            if invalid.any():
                position = int(invalid.argmax())
                record = int(np.searchsorted(np.cumsum(lines.lengths[side]), position, side="right"))
                raise DataError.at(chunk.file, chunk.line_of(record), self.describe_token(side, int(tokens[position])))
        invalid = np.abs(lines.labels) > np.finfo(np.float32).max
        if not self.hyperparameters.regression:
            whole = lines.labels == np.floor(lines.labels)
            invalid |= ~whole | (lines.labels < 0) | (lines.labels >= self.hyperparameters.num_classes)
        if invalid.any():
            record = int(invalid.argmax())
            raise DataError.at(chunk.file, chunk.line_of(record), self.describe_label(f"{lines.labels[record]:g}"))

    def describe_token(self, side: int, token: int) -> str:
        """Return the error for a token id out of range."""
        if token < 0:
            return f"{SIDES[side]} has the token {token}, wanted an integer token id from 0"
        size = self.hyperparameters.encoders[side].vocab_size
        return f'Inconsistent vocab for {SIDES[side]} found. Vocab id "{token}" is not less than vocab_size={size}'

    def describe_label(self, got: str) -> str:
        """Return the error for a label that is no number, or out of range."""
        if self.hyperparameters.regression:
            return f"label is {got}, wanted a finite number"
        return f"label is {got}, wanted a class from 0 to {self.hyperparameters.num_classes - 1}"

    def describe_error(self, record: Any) -> str:
        """Return the error for a JSON value that is not a record."""
        if not isinstance(record, dict):
            return f"{_describe_value(record)}, {EXPECTED_RECORD}"
        for side, key in enumerate(SIDES):
            if key not in record:
                return f"no {key}, {EXPECTED_RECORD}"
            if not isinstance(record[key], list):
                return f"{key} is {_describe_value(record[key])}, wanted a list of integer token ids"
            for position, token in enumerate(record[key]):
                if type(token) is not int and not (_is_whole(token) and abs(token) < 2**53):
                    return f"{key}[{position}] is {_describe_value(token)}, wanted an integer token id"
                if not -(2**31) <= token < 2**31:
                    return self.describe_token(side, int(token))
        if "label" not in record:
            return f"no label, {EXPECTED_RECORD}"
        return self.describe_label(_describe_value(record["label"]))


def _read_any(chunk: Chunk, reader: RecordReader) -> Lines:
    """Parse lines of any JSON with orjson: all at once, or each line if one of them is not a record."""
    is_enabled = gc.isenabled()
    gc.disable()  # searching the many new lists for cycles would double the time; there are none
    try:
        return _read_together(chunk, reader) or _read_each(chunk, reader)
    finally:
        if is_enabled:
            gc.enable()


def _read_together(chunk: Chunk, reader: RecordReader) -> Lines | None:
    if UTF8_BOM in chunk.text or b"}{" in chunk.text:
        texts = [text for _, text in _records(chunk)]
    else:
        texts = [text for text in chunk.text.split(b"\n") if text and not text.isspace()]
    try:
        parsed = orjson.loads(b"[%b]" % (b',"%b",' % SEPARATOR).join(texts))
        records, separators = parsed[::2], parsed[1::2]
        if len(records) != len(texts) or any(separator != SEPARATOR.decode() for separator in separators):
            return None  # a line with a part of a record, or with several
        if b"true" in chunk.text or b"false" in chunk.text:
            for record in records:
                _reject_bools(record)
        columns = [
            _to_column([record[key] for record in records], max_len)
            for key, max_len in zip(SIDES, reader.max_len, strict=True)
        ]
        labels = np.array(array("d", [record["label"] for record in records]))
    except (TypeError, ValueError, KeyError, OverflowError):
        return None
    (values0, lengths0, cut0), (values1, lengths1, cut1) = columns
    sides = (values0, values1), (lengths0, lengths1)
    return Lines(*sides, labels, np.array([cut0, cut1]), chunk.text.count(b"\n"), len(chunk.text))


def _to_column(lists: list[Any], max_len: int) -> tuple[Int32, Int64, int]:
    """Return the first `max_len` ids of each list, their numbers, and how many lists had more.

    Raises:
        TypeError, ValueError, OverflowError: one is not a list of 32-bit integers.
    """
    if any(type(tokens) is not list for tokens in lists):
        raise TypeError(lists)
    try:
        ids = array("i", list(chain.from_iterable(lists)))
    except TypeError:
        ids = array("i", list(chain.from_iterable(map(_token_ids, lists))))
    values, lengths = np.array(ids), np.fromiter(map(len, lists), np.int64, len(lists))
    cut = int(np.count_nonzero(lengths > max_len))
    if cut:
        values, offsets = truncate(values, np.concatenate([[0], np.cumsum(lengths)]), max_len)
        lengths = np.diff(offsets)
    return values, lengths, cut


def _read_each(chunk: Chunk, reader: RecordReader) -> Lines:
    """Parse each line.

    Raises:
        DataError: a line is not a record.
    """
    values, lengths, labels, cut = (array("i"), array("i")), (array("q"), array("q")), array("d"), [0, 0]
    for line, text in _records(chunk):
        try:
            record = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            other_format = describe_format(text) or describe_encoding(text[:HEAD_BYTES])
            what = other_format or f"not JSON ({error.msg} at character {error.pos + 1}), {EXPECTED_RECORD}"
            raise DataError.at(chunk.file, line, what) from None
        try:
            if b"true" in text or b"false" in text:  # bool is an int in Python, so the code below accepts it
                _reject_bools(record)
            for side, key in enumerate(SIDES):
                tokens = record[key]
                try:
                    values[side].fromlist(tokens)  # TypeError for all but a list of integers
                except TypeError:
                    values[side].fromlist(_token_ids(tokens))
                excess = max(0, len(tokens) - reader.max_len[side])
                del values[side][len(values[side]) - excess :]
                cut[side] += excess > 0
                lengths[side].append(len(tokens) - excess)
            labels.append(record["label"])
        except (TypeError, ValueError, KeyError, OverflowError):
            raise DataError.at(chunk.file, line, reader.describe_error(record)) from None
    return Lines(
        (np.frombuffer(values[0], np.int32), np.frombuffer(values[1], np.int32)),
        (np.frombuffer(lengths[0], np.int64), np.frombuffer(lengths[1], np.int64)),
        np.frombuffer(labels, np.float64),
        np.array(cut),
        chunk.text.count(b"\n"),
        len(chunk.text),
    )


def _token_ids(tokens: Any) -> list[int]:
    """Return a list of ids as integers: pandas writes the id 1 as 1.0 in a column with missing values.

    Raises:
        TypeError, ValueError: `tokens` is not a list of whole numbers.
    """
    if not isinstance(tokens, list):
        raise TypeError(tokens)
    ids = list(map(int, tokens))
    if ids != tokens:
        raise ValueError(tokens)
    return ids


def _is_whole(token: Any) -> bool:
    return type(token) is float and token.is_integer()


def _records(chunk: Chunk) -> Iterator[tuple[int, bytes]]:
    """Yield the line number and the text of each record; skip blank lines.

    Pipe mode concatenates files. So a line may have byte order marks at either end. It has two records if the first
    file has no final line break.
    """
    for line, text in enumerate(chunk.text.split(b"\n"), start=chunk.first_line):
        if UTF8_BOM in text:
            text = BOMS_AROUND.sub(b"", text)
        if b"}{" in text or b"}" + UTF8_BOM in text:
            yield from ((line, record) for record in _split_concatenated(text))
        elif text and not text.isspace():
            yield line, text


def _split_concatenated(text: bytes) -> list[bytes]:
    """Split a line into records if all parts are JSON; otherwise return the whole line."""
    records = RECORD_BOUNDARY.split(text)
    try:
        for record in records:
            orjson.loads(record)
    except orjson.JSONDecodeError:
        return [text]
    return records


def _reject_bools(record: Any) -> None:
    """Raise TypeError where a token or a label is true or false."""
    for key in (*SIDES, "label"):
        value = record[key]
        if isinstance(value, bool) or (isinstance(value, list) and any(isinstance(token, bool) for token in value)):
            raise TypeError(key)


def _describe_value(value: Any) -> str:
    """Describe a JSON value by its type and its first characters."""
    names = {str: "the string", bool: "the boolean", float: "the number", int: "the number", list: "the list"}
    if value is None:
        return "null"
    try:
        text = orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # orjson reads deeper nesting than it writes
        text = "[[…"
    return f"{names.get(type(value), 'the object')} {shortened(text)}"
