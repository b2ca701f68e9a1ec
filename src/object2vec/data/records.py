"""Parse JSON Lines into columns, and describe the error in a line that is not a record."""

from __future__ import annotations

import gc
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import orjson

from object2vec.array_types import Int32, Int64
from object2vec.data.files import HEAD_BYTES, UTF8_BOM, describe_encoding, describe_format
from object2vec.data.sequences import Sequences
from object2vec.errors import DataError, shortened
from object2vec.hyperparameters import Hyperparameters
from object2vec.hyperparameters.table import MAX_CLASSES
from object2vec.ops import jsonl as jsonl_ops
from object2vec.ops.jsonl import Lines

Side = Literal["in0", "in1"]
SIDES: Final[tuple[Side, ...]] = get_args(Side)
#: The key of a record's weight, which multiplies its loss.
WEIGHT: Final = "weight"
#: The boundary of two records on one line: files were concatenated without a line break.
RECORD_BOUNDARY: Final = re.compile(rb"(?<=\})(?:%b)*(?=\{)" % UTF8_BOM)
#: Byte order marks at either end of a line; concatenated files may be empty.
BOMS_AROUND: Final = re.compile(rb"^(?:%b)+|(?:%b)+\s*$" % (UTF8_BOM, UTF8_BOM))
#: Where a side may be a list of lists.
LIST_OF_LISTS: Final = re.compile(rb"\[\s*\[")
#: Errors of taking JSON values that are not records as records.
NOT_RECORDS: Final = (TypeError, ValueError, KeyError, OverflowError)
#: The largest float32, the type of labels in training.
MAX_NUMBER: Final = float(np.finfo(np.float32).max)
#: The largest weight: the sum of those of a batch is a float32 too.
MAX_WEIGHT: Final = 1e30
EXPECTED_OF_ONE_SIDE: Final = 'wanted an object like {"in0": [1, 2], "label": 1}'
EXPECTED_RECORD: Final = 'wanted an object like {"in0": [1, 2], "in1": [3], "label": 1}'


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines of a file. `first_line` is the number of the first one, counted from 1."""

    file: Path
    first_line: int
    text: bytes

    def first_record(self) -> bytes:
        """Return the text of the first record; empty if there is none."""
        return next(_records(self), (0, b""))[1]

    def line_of(self, record: int) -> int:
        """Return the line number of a pair of this chunk, counted from 0."""
        left = record
        for line, text in _records(self):
            if LIST_OF_LISTS.search(text):
                in1 = orjson.loads(text).get("in1")
                left -= len(in1) - 1 if _is_list_of_lists(in1) else 0
            left -= 1
            if left < 0:
                return line
        raise IndexError(record)


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
        plain = jsonl_ops.read_lines(chunk.text, self.max_len, sides=1 if self.hyperparameters.one_sided else 2)
        self._check(plain, chunk)
        if self.hyperparameters.sigmoid:
            one_each = np.ones(len(plain.labels), np.int64)
            plain = plain._replace(classes=(plain.labels.astype(np.int32), one_each), labels=np.ones(len(one_each)))
        parts = [plain]
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
        labels = lines.classes[0] if lines.classes else lines.labels
        invalid = np.abs(labels) > MAX_NUMBER
        if not self.hyperparameters.regression:
            whole = labels == np.floor(labels)
            invalid |= ~whole | (labels < 0) | (labels >= self.hyperparameters.num_classes)
        if invalid.any():
            record = position = int(invalid.argmax())
            if lines.classes:
                record = int(np.searchsorted(np.cumsum(lines.classes[1]), position, side="right"))
            raise DataError.at(chunk.file, chunk.line_of(record), self.describe_label(f"{labels[position]:g}"))
        if lines.weights is not None:
            invalid = (lines.weights < 0) | (lines.weights > MAX_WEIGHT)
            if invalid.any():
                record = int(invalid.argmax())
                what = _describe_weight(f"{lines.weights[record]:g}")
                raise DataError.at(chunk.file, chunk.line_of(record), what)

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
        several = ", or a list of them" if self.hyperparameters.sigmoid else ""
        return f"label is {got}, wanted a class from 0 to {self.hyperparameters.num_classes - 1}{several}"

    def _takes_negatives(self, label: Any) -> bool:
        """Return whether a record of this label may have negatives."""
        return not self.hyperparameters.sigmoid and type(label) in (int, float) and label >= 1

    def _describe_tokens(self, side: int, name: str, tokens: Any) -> str | None:
        """Return the error for what is no list of token ids, or None."""
        if not isinstance(tokens, list):
            return f"{name} is {_describe_value(tokens)}, wanted a list of integer token ids"
        for numbered, token in _numbered(name, tokens):
            is_whole = type(token) is float and token.is_integer() and abs(token) < 2**53
            if type(token) is not int and not is_whole:
                return f"{numbered} is {_describe_value(token)}, wanted an integer token id"
            if not -(2**31) <= token < 2**31:
                return self.describe_token(side, int(token))
        return None

    def describe_error(self, record: Any) -> str:
        """Return the error for a JSON value that is not a record."""
        sides = SIDES[: 1 if self.hyperparameters.one_sided else 2]
        wanted = EXPECTED_RECORD if len(sides) == 2 else EXPECTED_OF_ONE_SIDE
        if not isinstance(record, dict):
            return f"{_describe_value(record)}, {wanted}"
        if len(sides) == 1 and record.get("in1"):
            why = "the first record has in0 alone, or enc1_network is none"
            return f"in1 is {_describe_value(record['in1'])}, wanted no in1: {why}"
        for side, key in enumerate(sides):
            if key not in record:
                return f"no {key}, {wanted}"
            several = side == 1 and _is_list_of_lists(record[key])
            for name, tokens in _numbered(key, record[key]) if several else [(key, record[key])]:
                if error := self._describe_tokens(side, name, tokens):
                    return error
        if "label" not in record:
            return f"no label, {wanted}"
        if _is_list_of_lists(record.get("in1")) and not self._takes_negatives(record["label"]):
            why = "wanted a label from 1 and no output_layer=sigmoid: all lists but the first are negatives"
            return f"in1 is a list of lists, and label is {_describe_value(record['label'])}, {why}"
        if type(record.get(WEIGHT, 1)) not in (int, float):
            return _describe_weight(_describe_value(record.get(WEIGHT)))
        return self.describe_label(_describe_value(record["label"]))


def _numbered(name: str, values: list[Any]) -> Iterator[tuple[str, Any]]:
    """Yield each value with its name, such as in1[0]."""
    return ((f"{name}[{position}]", value) for position, value in enumerate(values))


def _is_list_of_lists(value: Any) -> bool:
    """Return whether `in1` is a positive and its negatives."""
    return type(value) is list and bool(value) and type(value[0]) is list


def _with_negatives(records: list[Any], reader: RecordReader) -> list[Any]:
    """Return records with one `in1` each: those of label 0 after a positive are the negatives given with it.

    Raises:
        TypeError, ValueError, KeyError: negatives are not allowed there.
    """
    if reader.hyperparameters.one_sided:
        return records
    found = []
    for record in records:
        if not _is_list_of_lists(record["in1"]):
            found.append(record)
            continue
        if not reader._takes_negatives(record["label"]):
            raise ValueError(record)
        first, *others = record["in1"]
        found += [record | {"in1": first}, *(record | {"in1": other, "label": 0} for other in others)]
    return found


def _read_any(chunk: Chunk, reader: RecordReader) -> Lines:
    """Parse lines of any JSON with orjson.

    Raises:
        DataError: a line is not a record.
    """
    is_enabled = gc.isenabled()
    gc.disable()  # searching the many new lists for cycles would double the time; there are none
    try:
        records = [orjson.loads(text) for _, text in _records(chunk)]
        if LIST_OF_LISTS.search(chunk.text):
            records = _with_negatives(records, reader)
        if b"true" in chunk.text or b"false" in chunk.text:
            for record in records:
                _reject_bools(record)
        columns = _to_columns(records, reader)
    except NOT_RECORDS:
        for line, text in _records(chunk):
            _check_line(chunk.file, line, text, reader)
        raise
    finally:
        if is_enabled:
            gc.enable()
    return columns._replace(lines=chunk.text.count(b"\n"), consumed=len(chunk.text))


def _check_line(file: Path, line: int, text: bytes, reader: RecordReader) -> None:
    """Check that a line is a record.

    Raises:
        DataError: it is not.
    """
    try:
        record = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        other_format = describe_format(text) or describe_encoding(text[:HEAD_BYTES])
        what = other_format or f"not JSON ({error.msg} at character {error.pos + 1}), {EXPECTED_RECORD}"
        raise DataError.at(file, line, what) from None
    try:
        records = _with_negatives([record], reader)
        for each in records:
            _reject_bools(each)
        _to_columns(records, reader)
    except NOT_RECORDS:
        raise DataError.at(file, line, reader.describe_error(record)) from None


def _to_columns(records: list[Any], reader: RecordReader) -> Lines:
    """Return the columns of records.

    Raises:
        TypeError, ValueError, KeyError, OverflowError: one is not a record.
    """
    one_sided = reader.hyperparameters.one_sided
    lists = [[record[key] for record in records] for key in SIDES[: 1 if one_sided else 2]]
    if one_sided:
        if any(record.get("in1") for record in records):
            raise ValueError(records)
        lists.append([[]] * len(records))
    values, lengths, cut = zip(*map(_to_column, lists, reader.max_len), strict=True)
    labels: Any = [record["label"] for record in records]
    weights = classes = None
    if reader.hyperparameters.sigmoid:
        sets = [list(dict.fromkeys(label)) if type(label) is list else [label] for label in labels]
        classes = _to_column(sets, MAX_CLASSES)[:2]
        labels = classes[1]
    if any(WEIGHT in record for record in records):
        weights = np.array(array("d", [record.get(WEIGHT, 1) for record in records]))
    return Lines(values, lengths, np.array(array("d", labels)), weights, classes, np.array(cut), 0, 0)


def _to_column(lists: list[Any], max_len: int) -> tuple[Int32, Int64, int]:
    """Return the first `max_len` ids of each list, their numbers, and how many lists had more."""
    if any(type(tokens) is not list for tokens in lists):
        raise TypeError(lists)
    try:
        ids = array("i", list(chain.from_iterable(lists)))
    except TypeError:
        ids = array("i", list(chain.from_iterable(map(_token_ids, lists))))
    values, lengths = np.array(ids), np.fromiter(map(len, lists), np.int64, len(lists))
    cut = int(np.count_nonzero(lengths > max_len))
    if cut:
        sequences = Sequences(values, np.concatenate([[0], np.cumsum(lengths)])).truncate(max_len)
        values, lengths = sequences.values, sequences.lengths
    return values, lengths, cut


def _token_ids(tokens: Any) -> list[int]:
    """Return a list of ids as integers: pandas writes the id 1 as 1.0 in a column with missing values."""
    ids = list(map(int, tokens))
    if ids != tokens:
        raise ValueError(tokens)
    return ids


def _records(chunk: Chunk) -> Iterator[tuple[int, bytes]]:
    """Yield the line number and the text of each record; skip blank lines.

    Pipe mode concatenates files. So a line may have byte order marks at either end. It has two records if the first
    file has no final line break.
    """
    concatenated = UTF8_BOM in chunk.text or b"}{" in chunk.text
    for line, text in enumerate(chunk.text.split(b"\n"), start=chunk.first_line):
        if concatenated:
            yield from ((line, record) for record in _split_concatenated(BOMS_AROUND.sub(b"", text)) if record.strip())
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
    """Raise TypeError where a token, a label or a weight is true or false."""
    if not isinstance(record, dict):
        raise TypeError(record)
    for key in (*SIDES, "label", WEIGHT):
        value = record.get(key)
        if isinstance(value, bool) or (isinstance(value, list) and any(isinstance(token, bool) for token in value)):
            raise TypeError(key)


def _describe_weight(got: str) -> str:
    return f"weight is {got}, wanted a number from 0 to {MAX_WEIGHT:g}"


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
