"""Files of answers: JSON Lines, CSV or Parquet; and text for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import orjson

from object2vec.data.outputs import os_errors_as_user_errors, writing
from object2vec.errors import DataError, UserError, shortened
from object2vec.extras import import_extra
from object2vec.retrieval.finder import Answers
from object2vec.retrieval.label_finder import LabelAnswers

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES: Final = (".jsonl", ".csv", ".parquet")
#: Characters of a cell of a text, at most.
MAX_CELL_CHARACTERS: Final = 40


def write_answers(parts: Iterable[Answers | LabelAnswers], output: str, name: str) -> None:
    """Write answers to a file, or to standard output if it is `-`; its suffix decides the format.

    A line of JSON is a query and its answers, which get the `name`. A row of a table is one answer.

    Raises:
        UserError: the file cannot be written.
    """
    suffix = "" if output == "-" else Path(output).suffix.lower()
    if suffix not in ("", *SUFFIXES):
        raise UserError(f"--output {output}: wanted a file with one of the suffixes {', '.join(SUFFIXES)}")
    with writing(output) as file, os_errors_as_user_errors(f"--output {output}"):
        if suffix in (".csv", ".parquet"):
            write_tables((part.table() for part in parts), file, suffix)
        else:
            for part in parts:
                file.write(to_json_lines(part, name))


def to_json_lines(answers: Answers | LabelAnswers, name: str) -> bytes:
    """Return a line of JSON for each query: `query` and its answers, which get the `name`."""
    columns = {each: to_list(values) for each, values in answers.queries.columns.items()}
    queries = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    lines = zip(queries, answers.records(), strict=True)
    return b"".join(to_json({"query": query, name: found}) + b"\n" for query, found in lines)


def to_json(value: Any) -> bytes:
    """Return a value as JSON; values that JSON does not have become text."""
    return orjson.dumps(value, default=_to_plain, option=orjson.OPT_SERIALIZE_NUMPY)


def _to_plain(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def to_list(values: Any) -> list[Any]:
    """Return a column as a list of Python values."""
    for method in ("to_pylist", "tolist", "to_list"):  # Arrow, numpy and pandas, polars
        if hasattr(values, method):
            return getattr(values, method)()  # type: ignore[no-any-return]
    return list(values)


def write_tables(tables: Iterable[pa.Table], file: IO[bytes], suffix: str) -> None:
    """Write tables one after another as one CSV or Parquet file.

    Raises:
        DataError: the columns of two tables have different types, or there is no table.
    """
    pa = import_extra("pyarrow")
    open_writer: Callable[..., Any]
    if suffix == ".csv":
        open_writer = import_extra("pyarrow.csv").CSVWriter
    else:
        open_writer = partial(import_extra("pyarrow.parquet").ParquetWriter, compression="zstd")
    writer, schema = None, None
    for table in tables:
        part = flat(table) if suffix == ".csv" else table
        if writer is None:
            schema = part.schema
            writer = open_writer(file, schema)
        try:
            writer.write_table(part.cast(schema))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(f"values are of several types ({error}), wanted one type a column") from error
    if not writer:
        raise DataError("the input has no rows, wanted at least one object")
    writer.close()


def flat(table: pa.Table) -> pa.Table:
    """Return a table whose nested columns are JSON text, for CSV."""
    pa, types = import_extra("pyarrow"), import_extra("pyarrow.types")
    columns = {
        name: pa.array([to_json(value).decode() for value in column.to_pylist()])
        if types.is_nested(column.type)
        else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return pa.table(columns)


def to_text(answers: Answers | LabelAnswers, titles: Sequence[str]) -> str:
    """Return answers as text, a table for each query; several queries get `titles`."""
    names = answers.columns
    blocks = []
    for title, records in zip(titles, answers.records(), strict=True):
        cells = [names] + [[_cell(record[name]) for name in names] for record in records]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
        blocks.append("\n".join([*([title] if len(titles) > 1 else []), *lines]))
    return "\n\n".join(blocks) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bool):
        return "yes" if value else ""
    text = "" if value is None else value if isinstance(value, str) else to_json(value).decode()
    return shortened(" ".join(text.split()), MAX_CELL_CHARACTERS)
