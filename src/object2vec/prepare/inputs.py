"""Read pairs for a model from any source: a channel, a table, a file of one, or rows."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from object2vec.data.files import iter_files, local_path, open_file
from object2vec.data.jsonlines import read_channel
from object2vec.data.records import SIDES, WEIGHT
from object2vec.data.sequences import Pairs
from object2vec.errors import DataError, UserError, located
from object2vec.hyperparameters import Hyperparameters
from object2vec.prepare.source import Limits, is_table_file, open_files
from object2vec.schema.pairs import encode_pairs
from object2vec.schema.schema import Schema
from object2vec.schema.tables import to_columns

logger = logging.getLogger(__name__)

LABEL: Final = "label"


def read_pairs(data: Any, hyperparameters: Hyperparameters, schema: Schema | None) -> Pairs:
    """Return the pairs of a path, a table or rows: raw values go through the schema, lists are token ids.

    Raises:
        UserError: the data cannot be read, or does not fit the model.
    """
    if isinstance(data, str | Path):
        return _read_path(local_path(data, streamed=True), hyperparameters, schema)
    if isinstance(data, Pairs):
        return data
    columns = to_columns(data)
    if schema is None or has_token_ids(columns):
        with tempfile.TemporaryDirectory() as folder:
            path = write_token_ids(columns, Path(folder), "data")
            return read_channel("data", path, hyperparameters)
    return _encoded(schema, [columns], "data")


def _read_path(path: Path, hyperparameters: Hyperparameters, schema: Schema | None) -> Pairs:
    if schema is None or not _is_raw(path):
        return read_channel("data", path, hyperparameters)
    names = [column.name for side in schema.sides for column in side.columns]
    names += [schema.label.name] if schema.label else []
    source = open_files([str(path)], Limits.of_machine())
    names += [schema.weight] if schema.weight and schema.weight in source.columns else []
    batches = source.batches(list(dict.fromkeys(names)))
    return _encoded(schema, batches, str(path))


def _encoded(schema: Schema, tables: Iterable[Mapping[str, Any]], name: str) -> Pairs:
    """Return the pairs of tables, and warn of rows that are skipped: those that `prepare` skips too."""
    skipped: Counter[str] = Counter()
    parts = []
    with located(name):
        for columns in tables:
            pairs, counts = encode_pairs(schema, columns)
            parts.append(pairs)
            skipped += counts
    for missing, count in skipped.items():
        logger.warning(f"skipped: {count:,} rows without {missing}")
    if not parts:
        raise DataError(f"{name}: no rows, wanted at least one")
    return Pairs.concatenate(parts)


def _is_raw(path: Path) -> bool:
    """Return whether the first file is a table, or JSON Lines of which the first has no list of token ids."""
    if not path.exists():
        raise DataError(f"{path}: No such file or directory")
    file = next(iter_files(path), None)
    if file is None:
        raise DataError(f"{path}: no files in this folder")
    if is_table_file(file):
        return True
    with open_file(file) as stream:
        line = next((line for line in stream if line.strip()), b"")
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return isinstance(record, dict) and not has_token_ids({name: [value] for name, value in record.items()})


def has_token_ids(columns: Mapping[str, Any]) -> bool:
    """Return whether a table has the columns in0 and in1, or in0 and label, and the sides hold lists of token ids."""
    sides = [side for side in SIDES if side in columns]
    is_whole = len(sides) == 2 or (sides == ["in0"] and LABEL in columns)
    return is_whole and all(_is_ids(next(iter(columns[side]), [])) for side in sides)


def _is_ids(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray) or hasattr(value, "as_py")


def write_token_ids(columns: Mapping[str, Any], folder: Path, name: str) -> Path:
    """Write columns in0, label and perhaps in1 and weight, which hold token ids, as JSON Lines; return the file.

    Raises:
        UserError: a column is missing.
    """
    for each in ("in0", LABEL):
        if each not in columns:
            wanted = "wanted the columns in0, in1 and label for token ids, or the columns of a schema"
            raise UserError(f"there is no column {each}, {wanted}")
    sides = [side for side in SIDES if side in columns]
    names = [*sides, LABEL, *([WEIGHT] if WEIGHT in columns else [])]
    lists = [_python_values(columns[each]) for each in names]
    path = folder / f"{name}.jsonl"
    with path.open("wb") as file:
        for row in zip(*lists, strict=True):
            record = dict(zip(names, (*map(_to_list, row[: len(sides)]), *row[len(sides) :]), strict=True))
            file.write(orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
    return path


def _python_values(values: Any) -> Iterable[Any]:
    """Return the values of a column as Python values, or rows of an array."""
    for method in ("to_pylist", "tolist", "to_list"):  # Arrow, numpy and pandas, polars
        if hasattr(values, method):
            return getattr(values, method)()  # type: ignore[no-any-return]
    return values  # type: ignore[no-any-return]


def _to_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple | np.ndarray) else [value]
