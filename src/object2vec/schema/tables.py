"""Tables of Python libraries as columns: pandas, polars, Arrow, duckdb, mappings of columns, and lists of rows.

Of a library, only pyarrow is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from object2vec.errors import UserError
from object2vec.schema.values import describe

#: The values of each column: an array of Arrow, pandas, polars or numpy, or a list.
Columns = Mapping[str, Any]
EXPECTED_TABLE: Final = (
    "wanted a DataFrame, an Arrow table, a duckdb relation, a mapping of columns, or a list of rows as dicts"
)


def is_table(data: object) -> bool:
    """Return whether an object holds rows and columns by itself; a list of rows does not, nor does a single column."""
    if len(getattr(data, "shape", (0, 0))) == 1:
        return False
    return isinstance(data, Mapping) or hasattr(data, "__arrow_c_stream__") or hasattr(data, "to_arrow_table")


def to_columns(data: Any) -> Columns:
    """Return the columns of a table by name.

    Raises:
        UserError: the data is not a table, has a column twice, or columns of different lengths.
    """
    if isinstance(data, Mapping):
        columns = {str(name): values for name, values in data.items()}
    elif hasattr(data, "iloc"):  # pandas, whose columns may have values of several types
        columns = _unique([(str(name), values) for name, values in data.items()])
    elif is_table(data):
        table = _to_arrow(data)
        columns = _unique(list(zip(table.column_names, table.columns, strict=True)))
    else:
        columns = _columns_of_rows(data)
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"columns have different lengths: {', '.join(f'{n} has {k}' for n, k in lengths.items())}")
    return columns


def like_table(data: Any, table: Any) -> Any:
    """Return an Arrow table as a table of the same library as `data`: pandas, polars, or else Arrow."""
    if hasattr(data, "iloc"):
        return table.to_pandas()
    if type(data).__module__.startswith("polars"):
        return type(data)(table)
    return table


def _to_arrow(data: Any) -> Any:
    import pyarrow as pa

    for method in ("to_arrow_table", "to_arrow"):  # duckdb, polars
        if hasattr(data, method):
            return getattr(data, method)()
    return pa.table(data)


def _unique(columns: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(columns)
    if len(found) < len(columns):
        names = [name for name, _ in columns]
        raise UserError(f"the table has the column {next(n for n in names if names.count(n) > 1)} twice, wanted once")
    return found


def _columns_of_rows(data: Any) -> dict[str, Any]:
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise UserError(f"data is {describe(data)}, {EXPECTED_TABLE}")
    rows = list(data)
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise UserError(f"data[{number}] is {describe(row)}, {EXPECTED_TABLE}")
    names = dict.fromkeys(str(name) for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
