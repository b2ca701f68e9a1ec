"""Instances from tables: CSV, TSV or Parquet files with the columns of a schema."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from object2vec.data.records import SIDES
from object2vec.errors import UserError
from object2vec.extras import import_extra
from object2vec.prepare.rows import count_rows
from object2vec.prepare.source import Limits, open_files
from object2vec.schema.schema import Schema
from object2vec.serving.instances import Instances
from object2vec.serving.raw_values import to_instances

#: Rows that become instances at a time.
CHUNK_ROWS: Final = 8192


def read_table(name: str, schema: Schema | None, *, whole: bool) -> Iterator[Instances]:
    """Yield the rows of a table as instances with their raw values, all at once if `whole` is set.

    A side without its columns is absent.

    Raises:
        UserError: the model has no schema, or the table has not the columns of a side.
    """
    if schema is None:
        raise UserError(f"{name}: a table needs a model with a schema, wanted JSON Lines with token ids")
    source = open_files([name], Limits.of_machine())
    columns = {side: schema[side].names for side in SIDES}
    present = [side for side in SIDES if not columns[side] or set(columns[side]) & set(source.columns)]
    names = list(dict.fromkeys(name for side in present for name in columns[side]))
    if not names:
        wanted = ", ".join(map(repr, dict.fromkeys([*columns["in0"], *columns["in1"]])))
        raise UserError(f"{name}: no column of the model, wanted {wanted}")
    first = 1
    batches = source.batches(names)
    if whole and (parts := list(batches)):
        chunked = import_extra("pyarrow").chunked_array
        batches = iter([{name: chunked([part[name] for part in parts]) for name in names}])
    size = sys.maxsize if whole else CHUNK_ROWS
    for batch in batches:
        for start in range(0, count_rows(batch), size):
            rows = {name: values[start : start + size] for name, values in batch.items()}
            yield _to_instances(rows, schema, present, first)
            first += count_rows(rows)


def _to_instances(columns: Mapping[str, Any], schema: Schema, present: Sequence[str], first: int) -> Instances:
    encoded = [schema.encode_columns(side, columns) if side in present else None for side in SIDES]
    numbers = np.arange(first, first + count_rows(columns))
    to_table = import_extra("pyarrow").table
    return to_instances(encoded, "row {}", numbers, lambda: dict(enumerate(to_table(columns).to_pylist())))
