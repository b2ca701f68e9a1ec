"""JSON Lines files to pairs. Strict: a line that is no pair is named with its file, its number and what was wanted.

Tokens go from the parser's lists straight into flat columns: 24 bytes a pair beside the tokens themselves.
"""

from __future__ import annotations

import logging
import zlib
from array import array
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from object2vec.data.files import files_of, open_file
from object2vec.data.sequences import Pairs, Sequences
from object2vec.errors import DataError
from object2vec.hyperparameters import Hyperparameters

logger = logging.getLogger(__name__)

SIDES: Final = ("in0", "in1")
WANTED: Final = 'wanted an object like {"in0": [1, 2], "in1": [3], "label": 1}'


def read_channel(name: str, path: Path, hyperparameters: Hyperparameters) -> Pairs:
    """Read a channel: one file, or every file in a folder and the folders in it, in the order of their names.

    Files whose names start with `.` or `_` are markers of other programs (`_SUCCESS`) and left out. Names that end
    in `.gz` are decompressed. Sequences longer than `max_seq_len` are cut.

    Raises:
        DataError: the channel has no record, a file is empty or damaged, or a line of one is no pair.
    """
    columns = _Columns(hyperparameters)
    files = list(files_of(path))
    for file in files:
        columns.read(file)
    if not columns.labels:
        raise DataError(f"channel {name}: not able to find any data/records in {len(files)} file(s) under {path}")
    if any(columns.truncated):
        counts = ", ".join(f"{n} of {side}" for side, n in zip(SIDES, columns.truncated, strict=True))
        logger.warning("One or more sequences have been truncated because they exceeded max_seq_len (%s)", counts)
    return columns.pairs()


class _Columns:
    """The columns of a channel while they grow."""

    def __init__(self, hyperparameters: Hyperparameters) -> None:
        self.hyperparameters = hyperparameters
        self.values = (array("i"), array("i"))
        self.offsets = (array("q", [0]), array("q", [0]))
        self.labels = array("d")
        self.truncated = [0, 0]

    def pairs(self) -> Pairs:
        sides = [
            Sequences(np.frombuffer(values, np.int32), np.frombuffer(offsets, np.int64))
            for values, offsets in zip(self.values, self.offsets, strict=True)
        ]
        return Pairs(sides[0], sides[1], np.frombuffer(self.labels, np.float64).astype(np.float32))

    def read(self, file: Path) -> None:
        """Append the pairs of one file."""
        first = len(self.labels)
        line = 0
        try:
            with open_file(file) as stream:
                for line, text in enumerate(stream, start=1):
                    if not text.isspace():
                        self._append(file, line, text)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{file}: cannot be read past line {line} ({error})") from error
        if len(self.labels) == first:
            raise DataError(f"{file}: the file is empty, {WANTED} a line")
        self._check(file, first)

    def _append(self, file: Path, line: int, text: bytes) -> None:
        try:
            record = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise DataError.at(file, line, f"not JSON ({error.msg} at character {error.pos + 1}), {WANTED}") from None
        try:
            if b"true" in text or b"false" in text:  # bool passes for int everywhere below
                _refuse_bools(record)
            for side in (0, 1):
                self._append_side(side, record[SIDES[side]])
            self.labels.append(record["label"])
        except (TypeError, KeyError, OverflowError):
            raise DataError.at(file, line, self._explain(record)) from None

    def _append_side(self, side: int, tokens: list[int]) -> None:
        values = self.values[side]
        values.fromlist(tokens)  # TypeError for all but a list of integers
        excess = len(tokens) - self.hyperparameters.encoders[side].max_seq_len
        if excess > 0:
            del values[-excess:]
            self.truncated[side] += 1
        self.offsets[side].append(len(values))

    def _explain(self, record: Any) -> str:
        """What is wrong with a record that could not be appended."""
        if not isinstance(record, dict):
            return f"{_kind(record)}, {WANTED}"
        for side in SIDES:
            if side not in record:
                return f"no {side}, {WANTED}"
            if not isinstance(record[side], list):
                return f"{side} is {_kind(record[side])}, wanted a list of integer token ids"
            for position, token in enumerate(record[side]):
                if type(token) is not int:
                    return f"{side}[{position}] is {_kind(token)}, wanted an integer token id"
                if not -(2**31) <= token < 2**31:
                    return self._vocabulary(SIDES.index(side), token)
        if "label" not in record:
            return f"no label, {WANTED}"
        return self._label(_kind(record["label"]))

    def _check(self, file: Path, first: int) -> None:
        """Check the values of all records from the one numbered `first`, which is the first of `file`."""
        for side in (0, 1):
            start = self.offsets[side][first]
            tokens = np.frombuffer(self.values[side], np.int32)[start:]
            bad = (tokens < 0) | (tokens >= self.hyperparameters.encoders[side].vocab_size)
            if bad.any():
                position = start + int(bad.argmax())
                record = int(np.searchsorted(np.frombuffer(self.offsets[side], np.int64), position, side="right")) - 1
                what = self._vocabulary(side, self.values[side][position])
                raise DataError.at(file, _line_of(file, record - first), what)
        labels = np.frombuffer(self.labels, np.float64)[first:]
        bad = np.abs(labels) > np.finfo(np.float32).max  # what float32 cannot hold
        if not self.hyperparameters.regression:
            bad |= (labels != np.floor(labels)) | (labels < 0) | (labels >= self.hyperparameters.num_classes)
        if bad.any():
            record = int(bad.argmax())
            raise DataError.at(file, _line_of(file, record), self._label(f"{labels[record]:g}"))

    def _vocabulary(self, side: int, token: int) -> str:
        if token < 0:
            return f"{SIDES[side]} has the token {token}, wanted an integer token id from 0"
        size = self.hyperparameters.encoders[side].vocab_size
        return f'Inconsistent vocab for {SIDES[side]} found. Vocab id "{token}" is not less than vocab_size={size}'

    def _label(self, got: str) -> str:
        if self.hyperparameters.regression:
            return f"label is {got}, wanted a finite number"
        return f"label is {got}, wanted a class from 0 to {self.hyperparameters.num_classes - 1}"


def _refuse_bools(record: Any) -> None:
    """Raise TypeError where a token or a label is true or false."""
    for key in (*SIDES, "label"):
        value = record[key]
        if isinstance(value, bool) or (isinstance(value, list) and any(isinstance(token, bool) for token in value)):
            raise TypeError(key)


def _line_of(file: Path, record: int) -> int:
    """The number, from 1, of the line that holds a record, numbered from 0; lines without one are not counted."""
    with open_file(file) as stream:
        lines = (line for line, text in enumerate(stream, start=1) if not text.isspace())
        return next(islice(lines, record, None))


def _kind(value: Any) -> str:
    """A JSON value in a few words: what it is, and how it begins."""
    names = {str: "the string", bool: "the boolean", float: "the number", int: "the number", list: "the list"}
    if value is None:
        return "null"
    text = orjson.dumps(value).decode()
    return f"{names.get(type(value), 'the object')} {text if len(text) <= 40 else text[:40] + '…'}"
