"""Read tables with duckdb, as batches of Arrow columns in one order.

Files are read in the order of their names and lines. The rows of a query are sorted by their values, since duckdb gives
them in an order that depends on threads and memory.
"""

from __future__ import annotations

import csv
import glob
import io
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from object2vec.data.files import (
    HEAD_BYTES,
    READ_ERRORS,
    describe_encoding,
    iter_files,
    local_path,
    open_file,
    open_text,
)
from object2vec.errors import AlgorithmError, DataError, located, shortened
from object2vec.extras import import_extra
from object2vec.resources import cpus, memory_available, memory_limit
from object2vec.schema.schema import require_column
from object2vec.schema.values import value_text
from object2vec.storage import file_system, matching, parse_address

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

#: The table function and its options for each kind of file. Values of text files stay the text that they are.
_CSV: Final = "read_csv({}, all_varchar=true, header=true, skip=0, comment='', quote='\"', escape='\"'{})"
READERS: Final = {
    ".csv": _CSV,
    ".txt": _CSV,
    ".tsv": _CSV,
    ".jsonl": "read_json({}, format='newline_delimited'{})",
    ".ndjson": "read_json({}, format='newline_delimited'{})",
    ".json": "read_json({}{})",
    ".parquet": "read_parquet({}{})",
}
#: Suffixes of files that are tables in any case; those of JSON may hold pairs of token ids.
TABLE_SUFFIXES: Final = (".csv", ".tsv", ".parquet")
#: What can be between values. The one that occurs most often in the first line is.
DELIMITERS: Final = ",;\t|"
COMPRESSED: Final = (".gz", ".zst")
#: Bytes of a batch of rows, about, and its number of rows. Nothing that is written depends on them.
BATCH_BYTES: Final = 2**24
BATCH_ROWS: Final = (2**11, 2**20)
#: Rows from which the bytes of a row are estimated.
SAMPLE_ROWS: Final = 2_000
MAX_HEADER_BYTES: Final = 2**20
MAX_ERROR_CHARACTERS: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Threads, and bytes of memory that may be used, by default those of this machine and its control group."""

    threads: int
    memory: int

    @classmethod
    def of_machine(cls, threads: int | None = None, memory: int | None = None) -> Limits:
        return cls(threads=threads or cpus(), memory=memory or min(memory_limit(), memory_available()))


class Source:
    """Rows of files or of a query: `columns` are the names of all columns, `name` is that of the source in messages."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: str,
        name: str,
        *,
        ordered: bool,
        repeated: Collection[str] = (),
    ) -> None:
        """Open a table of duckdb, which has given other names to columns whose names are `repeated`."""
        self._connection = connection
        self._table = table
        self.name = name
        self._ordered = ordered
        self._repeated = repeated
        if "s3://" in table.lower():
            connection.register_filesystem(file_system())
        with _explained(name):
            found = connection.sql(f"describe {_select('*', table)}").fetchall()
        self.columns = [name for name, *_ in found]
        #: Columns whose values are of several types.
        self._json = {name for name, kind, *_ in found if kind.startswith("JSON")}

    def batches(self, names: Sequence[str]) -> Iterator[dict[str, pa.Array | list[Any]]]:
        """Yield batches of all rows, always in the same order: the values of each of these columns.

        Raises:
            RawValueError: there is no such column.
            DataError: a file is damaged, or the query fails.
        """
        self._check_columns(names)
        chosen = ", ".join(map(_quoted, dict.fromkeys(names)))
        query = _select(chosen, self._table)
        order = "" if self._ordered else " order by all"
        with _explained(self.name):
            sample = self._connection.sql(f"{query} limit {SAMPLE_ROWS}").to_arrow_table()
            row_bytes = max(1, sample.nbytes // max(1, len(sample)))
            rows = min(max(BATCH_BYTES // row_bytes, BATCH_ROWS[0]), BATCH_ROWS[1])
            for batch in self._connection.sql(query + order).to_arrow_reader(rows):
                yield {
                    name: list(map(_from_json, values.to_pylist())) if name in self._json else values
                    for name, values in zip(batch.schema.names, batch.columns, strict=True)
                }

    def _check_columns(self, names: Sequence[str]) -> None:
        known = dict.fromkeys(self.columns)
        with located(self.name):
            for name in names:
                require_column(known, name)
                if name in self._repeated:
                    raise DataError(f"the column {name} is there twice, wanted once")

    def unique(self, names: Sequence[str]) -> dict[str, pa.Array]:
        """Return a row for each combination of values of these columns, the most frequent first.

        It has these columns, and every other column that has one value per combination.

        Raises:
            RawValueError: there is no such column.
            DataError: a file is damaged.
        """
        self._check_columns(names)
        others = [name for name in self.columns if name not in names]
        keys = ", ".join(map(_quoted, names))
        ends = "".join(
            f", {each}({_quoted(name)}) as {each}{place}"
            for place, name in enumerate(others)
            for each in ("min", "max")
        )
        with _explained(self.name):
            query = f"{_select(f'{keys}{ends}, count(*) as frequency', self._table)} group by {keys}"
            self._connection.execute(f"create or replace temp table combinations as {query}")
            equal = ", ".join(
                ["count(*)", *(f"bool_and(min{n} is not distinct from max{n})" for n in range(len(others)))]
            )
            _, *is_single = self._connection.sql(_select(equal, "combinations")).fetchall()[0]
            single = [f"min{n} as {_quoted(name)}" for n, name in enumerate(others) if is_single[n]]
            query = _select(", ".join([keys, *single]), "combinations")
            table = self._connection.sql(f"{query} order by frequency desc, {keys}").to_arrow_table()
            self._connection.execute("drop table combinations")
        is_json = {name: name in self._json and name in names for name in table.column_names}
        return {name: _plain(table[name], is_json=is_json[name]) for name in table.column_names}


def open_files(paths: Sequence[str], limits: Limits) -> Source:
    """Return the rows of files, of all files in folders, or of all that match a pattern such as `part-*.csv`.

    Raises:
        DataError: there is no such file, or the format of one is not known.
    """
    files = [file for path in paths for file in _find(path)]
    kinds = {_kind(file) for file in files}
    if len(kinds) > 1:
        raise DataError(f"{paths[0]}: files of several formats ({', '.join(sorted(kinds))}), wanted one; use --query")
    reader = READERS[kinds.pop()]
    options, names = _read_header(files[0]) if reader == _CSV else ("", [])
    table = reader.format("[" + ", ".join(_literal(str(file)) for file in files) + "]", options)
    repeated = {name for name in names if names.count(name) > 1}
    return Source(connect(limits), table, str(paths[0]), ordered=True, repeated=repeated)


def open_columns(columns: Mapping[str, Any], limits: Limits) -> Source:
    """Return the rows of a table in memory, given as columns: arrays or lists."""
    connection = connect(limits)
    connection.register("given", import_extra("pyarrow").table({name: _to_arrow(v) for name, v in columns.items()}))
    return Source(connection, "given", "the table", ordered=False)


def _to_arrow(values: Any) -> Any:
    """Return a column as an Arrow array. Values of several types become text."""
    pa = import_extra("pyarrow")
    try:
        return values.to_arrow() if hasattr(values, "to_arrow") else pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([value_text(value) for value in values])


def _plain(column: pa.ChunkedArray, *, is_json: bool) -> pa.Array:
    """Return a column as one array. A column of JSON becomes text, or lists of text."""
    pa = import_extra("pyarrow")
    if not is_json:
        return column.combine_chunks()
    try:
        values = map(_from_json, column.to_pylist())
        return pa.array([list(map(value_text, v)) if isinstance(v, list) else value_text(v) for v in values])
    except (ValueError, pa.ArrowInvalid) as error:
        raise DataError(
            f"a column holds values of several types ({error}), wanted strings, numbers or lists"
        ) from error


def is_table_file(file: Path) -> bool:
    """Return whether the suffix of a file, which may be compressed, is one of a table."""
    return any(suffix.lower() in TABLE_SUFFIXES for suffix in file.suffixes[-2:])


def open_query(query: str, limits: Limits) -> Source:
    """Return the rows of a SQL query, which may name files in its `from`.

    Raises:
        DataError: the query is not valid, or reads something that cannot be read.
    """
    return Source(connect(limits), f"({query.strip().rstrip(';')})", "--query", ordered=False)


def connect(limits: Limits) -> duckdb.DuckDBPyConnection:
    """Return a duckdb connection that uses half of the memory: duckdb exceeds its limit, and we need some."""
    connection: duckdb.DuckDBPyConnection = import_extra("duckdb").connect()
    connection.execute(f"set threads = {limits.threads}")
    connection.execute(f"set memory_limit = '{max(64, limits.memory // 2**21)}MiB'")
    connection.execute("set enable_progress_bar = false")
    connection.execute("set autoinstall_known_extensions = false")
    return connection


def _find(path: str) -> list[Path]:
    """Return the files of a path, of a folder or of a pattern, in the order of their names."""
    if parse_address(path) and glob.has_magic(path):
        files = matching(path)
    elif glob.has_magic(path) and not Path(path).exists():
        found = [Path(match) for match in sorted(glob.glob(path, recursive=True))]  # noqa: PTH207 -- Path.glob takes no absolute pattern
        files = [file for file in found if file.is_file()]
    else:
        files = list(iter_files(local_path(path, streamed=True)))
    if not files:
        raise DataError(
            f"{path}: No such file or directory, wanted a table: a file, a folder or a pattern like 'a/*.csv'"
        )
    files = [file for file in files if file.stat().st_size]
    if not files:
        raise DataError(f"{path}: empty, wanted a table")
    return files


def _kind(file: Path) -> str:
    """Return the suffix of a file's format; check the encoding of a text file."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    packed = suffixes[-1:] and suffixes[-1] in COMPRESSED
    kind = (suffixes[:-1] if packed else suffixes)[-1:]
    if not kind or kind[0] not in READERS:
        raise DataError(f"{file}: wanted a file that ends in {', '.join(READERS)}, or one of these and .gz or .zst")
    if not packed and kind[0] != ".parquet":
        with file.open("rb") as stream:
            if other := describe_encoding(stream.read(HEAD_BYTES)):
                raise DataError(f"{file}: {other}")
    return kind[0]


def _read_header(file: Path) -> tuple[str, list[str]]:
    """Return the option for the delimiter of a CSV file, and the names in its first line."""
    try:
        with _open_zstd(file) if file.suffix.lower() == ".zst" else open_file(file) as stream:
            line = stream.readline(MAX_HEADER_BYTES).decode(errors="replace")
    except READ_ERRORS as error:
        raise DataError(f"{file}: {getattr(error, 'strerror', None) or error}, wanted a table") from error
    unquoted = re.sub(r'"[^"]*"', "", line)
    delimiter = max(DELIMITERS, key=unquoted.count)
    return f", delim={_literal(delimiter)}", next(csv.reader([line], delimiter=delimiter))


def _open_zstd(file: Path) -> BinaryIO:
    stream: Any = import_extra("pyarrow").CompressedInputStream(file.open("rb"), "zstd")
    return open_text(io.BufferedReader(stream), str(file))


def _from_json(value: Any) -> Any:
    """Return a value of a column of JSON, which is the text of JSON, or a list of such texts."""
    if isinstance(value, list):
        return list(map(_from_json, value))
    return None if value is None else json.loads(value)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Raise errors of duckdb as data errors of one sentence."""
    import duckdb

    try:
        yield
    except (duckdb.Error, OSError) as error:  # OSError where Arrow reads from duckdb
        if "Traceback" in str(error):  # an error of ours in the file system that duckdb reads S3 with
            kind, _, sentence = str(error).strip().splitlines()[-1].partition(": ")
            raise (AlgorithmError if kind == AlgorithmError.__name__ else DataError)(sentence) from error
        text = re.sub(r"^([\w ]+ Error: )+", "", str(error).partition("Possible fixes")[0].partition("\n\n")[0])
        sentence = "; ".join(line.strip() for line in text.splitlines() if line.strip())
        raise DataError(f"{name}: {shortened(sentence, MAX_ERROR_CHARACTERS)}") from error
    except RuntimeError as error:
        if str(error) == "Query interrupted":  # duckdb's own word for Ctrl-C
            raise KeyboardInterrupt from error
        raise


def _select(columns: str, table: str) -> str:
    return f"select {columns} from {table}"  # noqa: S608 -- a person's own query, on their own machine


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
