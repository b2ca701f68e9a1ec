"""Read channels of JSON Lines files into pairs.

Threads parse chunks of whole lines in parallel. The resulting columns are stored on disk and mapped into memory. A line
that is not a pair is an error, which names the file, the line, what was got and what was wanted.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from object2vec.data.disk_arrays import AppendOnlyArray
from object2vec.data.files import READ_ERRORS, iter_files, local_path, open_file
from object2vec.data.prefetch import map_in_order
from object2vec.data.records import EXPECTED_RECORD, SIDES, Chunk, RecordReader
from object2vec.data.sequences import Pairs, Sequences
from object2vec.errors import DataError
from object2vec.hyperparameters import Hyperparameters
from object2vec.ops.jsonl import Lines

logger = logging.getLogger(__name__)

#: Bytes per chunk. Each thread needs a few times as much memory.
CHUNK_BYTES: Final = 2**21
#: Bytes of the longest accepted line: hundreds of times what the longest sequences need.
MAX_LINE_BYTES: Final = 2**26


def read_channel(name: str, path: Path, hyperparameters: Hyperparameters, *, empty: bool = False) -> Pairs:
    """Read a channel: one file or pipe, or all files of a folder and its subfolders in the order of their names.

    Skip files whose names start with `.` or `_`: other programs write them as markers (`_SUCCESS`). Detect gzip by the
    first bytes. Skip files without records with a warning. Truncate sequences longer than `max_seq_len`. With `empty`,
    the channel may have no records.

    Raises:
        DataError: the channel is missing or has no records, a file is damaged or in another format, or a line is not a
            pair.
    """
    import torch  # slow; check_first_record does not need it

    files = [] if empty and not path.exists() else _files_of_channel(name, path)
    threads = torch.get_num_threads()
    without_records = []
    with closing(_Columns()) as columns, ThreadPoolExecutor(threads) as pool:
        reader = RecordReader(hyperparameters)
        for file in files:
            before = len(columns.labels)
            for parts in map_in_order(pool, reader.read, _chunks(file), threads):
                columns.append(parts)
            if len(columns.labels) == before:
                without_records.append(file)
        if not len(columns.labels) and not empty:
            raise _no_records(name, path, len(files))
        if without_records:
            which = f"{len(without_records)} of {len(files)} files, the first is {without_records[0]}"
            logger.warning(f"channel {name}: files without records are skipped: {which}")
        if columns.cut.any():
            counts = ", ".join(f"{n} of {side}" for side, n in zip(SIDES, columns.cut, strict=True))
            logger.warning("One or more sequences have been truncated because they exceeded max_seq_len (%s)", counts)
        return columns.pairs()


def check_first_record(name: str, path: Path, hyperparameters: Hyperparameters) -> None:
    """Check the first record of a channel as `read_channel` does. Do not read pipes.

    Raises:
        DataError: the channel is missing or has no files, or its first record is not a pair.
    """
    reader, files = RecordReader(hyperparameters), _files_of_channel(name, path)
    for file in files:
        if file.is_fifo():
            return
        with closing(_chunks(file)) as chunks:
            if (chunk := next(chunks, None)) and reader.check_first(chunk):
                return
    if not files:
        raise _no_records(name, path, 0)


def first_record(name: str, path: Path) -> Any:
    """Return the first record of a channel as a JSON value; None if it cannot be read yet, as from a pipe."""
    with suppress(DataError, orjson.JSONDecodeError):
        for file in _files_of_channel(name, path):
            if file.is_fifo():
                break
            with closing(_chunks(file)) as chunks:
                for chunk in chunks:
                    if text := chunk.first_record():
                        return orjson.loads(text)
    return None


def _files_of_channel(name: str, path: Path) -> list[Path]:
    if not local_path(path).exists():
        raise DataError(f"channel {name}: {path}: No such file or directory")
    return list(iter_files(path))


def _no_records(name: str, path: Path, count: int) -> DataError:
    return DataError(f"channel {name}: not able to find any data/records in {count} file(s) under {path}")


def _chunks(file: Path) -> Generator[Chunk, None, None]:
    line = 1
    try:
        with open_file(file) as stream:
            while block := stream.read(CHUNK_BYTES):
                if not block.endswith(b"\n"):
                    last_line = stream.readline(MAX_LINE_BYTES)
                    if len(last_line) == MAX_LINE_BYTES:
                        what = f"the line is longer than {MAX_LINE_BYTES >> 20} MiB"
                        raise DataError.at(file, line + block.count(b"\n"), f"{what}, {EXPECTED_RECORD}")
                    block += last_line
                yield Chunk(file, line, block)
                line += block.count(b"\n")
    except READ_ERRORS as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{file}: cannot be read past line {line - 1} ({reason})") from error


class _Columns:
    """The columns of a channel during reading."""

    def __init__(self) -> None:
        self.values = (AppendOnlyArray(np.int32), AppendOnlyArray(np.int32))
        self.offsets = (AppendOnlyArray(np.int64), AppendOnlyArray(np.int64))
        self.labels = AppendOnlyArray(np.float32)
        self.weights = AppendOnlyArray(np.float32)  # empty until a record has one
        self.classes = AppendOnlyArray(np.int32), AppendOnlyArray(np.int64)  # values and offsets, empty if not used
        self.cut = np.zeros(2, np.int64)
        for offsets in self.offsets:
            offsets.append(np.zeros(1, np.int64))

    def append(self, parts: list[Lines]) -> None:
        """Append the records of a chunk."""
        for part in parts:
            for side in (0, 1):
                self.offsets[side].append(len(self.values[side]) + np.cumsum(part.lengths[side]))
                self.values[side].append(part.values[side])
            if part.weights is not None or len(self.weights):
                self.weights.append(np.ones(len(self.labels) - len(self.weights)))
                self.weights.append(np.ones(len(part.labels)) if part.weights is None else part.weights)
            if part.classes:
                values, offsets = self.classes
                if not len(offsets):
                    offsets.append(np.zeros(1, np.int64))
                offsets.append(len(values) + np.cumsum(part.classes[1]))
                values.append(part.classes[0])
            self.labels.append(part.labels)
            self.cut += part.cut

    def close(self) -> None:
        for column in (*self.values, *self.offsets, self.labels, self.weights, *self.classes):
            column.close()

    def pairs(self) -> Pairs:
        sides = [Sequences(v.as_array(), o.as_array()) for v, o in zip(self.values, self.offsets, strict=True)]
        weights = self.weights.as_array() if len(self.weights) else None
        classes = Sequences(*(column.as_array() for column in self.classes)) if len(self.classes[1]) else None
        return Pairs(sides[0], sides[1], self.labels.as_array(), weights, classes)
