"""SQL conditions on the columns of objects, such as `year > 1990`.

A condition may come from a client of a server. It is one expression of columns, constants, operators and the functions
listed here. duckdb evaluates it without access to files, extensions and settings.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from object2vec.array_types import Bools
from object2vec.errors import RawValueError, shortened
from object2vec.extras import import_extra

if TYPE_CHECKING:
    import pyarrow as pa

MAX_CONDITION_CHARACTERS: Final = 10_000
MAX_ERROR_CHARACTERS: Final = 200
#: Parts of an expression that are allowed: no subqueries, aggregates, windows or lambdas.
CLASSES: Final = "BETWEEN CASE CAST COLUMN_REF COMPARISON CONJUNCTION CONSTANT FUNCTION OPERATOR TYPE"
OPERATORS: Final = "+ - * / // % || ~~ !~~ ~~* !~~* ~~~ ~ !~ & | ^@"
#: Functions whose results are at most as large as their arguments.
FUNCTIONS: Final = (
    "abs ceil coalesce contains date_part day ends_with floor greatest hour ifnull ilike_escape least len length "
    "like_escape list_contains list_has_all list_has_any list_value lower ltrim minute month not_ilike_escape "
    "not_like_escape nullif prefix quarter regexp_full_match regexp_matches round rtrim second starts_with "
    "strip_accents substring suffix trim upper week year"
)
SETTINGS: Final = {
    "threads": 1,
    "memory_limit": "256MB",
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "python_enable_replacements": False,
    "enable_external_access": False,
    "lock_configuration": True,
}
CONDITION: Final = "one condition such as year > 1990"
_TABLE: Final = "objects"


def evaluate_condition(table: pa.RecordBatch, condition: str) -> Bools:
    """Return which rows of a table meet a condition, (N,); a null is no.

    Raises:
        RawValueError: it is not a single condition on these columns, or it uses a function that is not allowed.
    """
    duckdb, pa = import_extra("duckdb"), import_extra("pyarrow")
    if not isinstance(condition, str):
        raise _error(repr(condition), "is no text", CONDITION)
    if not condition.strip():
        raise _error(condition, "is empty", CONDITION)
    if len(condition) > MAX_CONDITION_CHARACTERS:
        raise _error(condition, f"has {len(condition):,} characters", f"at most {MAX_CONDITION_CHARACTERS:,}")
    query = f"select (\n{condition}\n) as met from {_TABLE}"  # noqa: S608 -- checked below
    with duckdb.connect(config=SETTINGS) as connection:
        try:
            _check(
                condition,
                table.schema.names,
                json.loads(connection.execute("select json_serialize_sql(?)", [query]).fetchall()[0][0]),
            )
            connection.register(_TABLE, pa.Table.from_batches([table]))
            found = connection.sql(query)
            if str(found.types[0]) != "BOOLEAN":
                raise _error(condition, f"is a {found.types[0]}", CONDITION)
            met = found.to_arrow_table()["met"].fill_null(False)
        except duckdb.Error as error:
            raise _error(condition, _sentence(str(error)), f"a condition on {', '.join(table.schema.names)}") from error
        except (RecursionError, UnicodeEncodeError) as error:
            raise _error(condition, "is too deep, or no Unicode text", CONDITION) from error
    return met.to_numpy()  # type: ignore[no-any-return]


def _check(condition: str, columns: Sequence[str], parsed: dict[str, Any]) -> None:
    """Check that a parsed query selects one expression with allowed parts only."""
    if parsed["error"]:
        raise _error(condition, _sentence(parsed["error_message"]), CONDITION)
    nodes = [statement["node"] for statement in parsed["statements"]]
    if len(nodes) != 1 or nodes[0]["type"] != "SELECT_NODE" or len(nodes[0]["select_list"]) != 1:
        raise _error(condition, "is not one expression", CONDITION)
    for part in _parts(nodes[0]["select_list"][0]):
        if part["class"] not in CLASSES.split():
            raise _error(condition, f"has a {part['class'].lower()}", "columns, constants, operators and functions")
        for column in part.get("column_names", ())[:1]:
            if column.lower() not in map(str.lower, columns):
                near = difflib.get_close_matches(column, columns, n=1, cutoff=0.0)[0]
                raise _error(condition, f"there is no column {shortened(column)}", f"one such as {near}")
        name = part.get("function_name", "").lower()
        if name and name not in (OPERATORS if part.get("is_operator") else FUNCTIONS).split():
            near = difflib.get_close_matches(name, FUNCTIONS.split(), n=1, cutoff=0.7)
            hint = f", the nearest is {near[0]}" if near else ""
            raise _error(condition, f"uses {shortened(name)}", f"an allowed function{hint}")


def _parts(expression: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield an expression and all expressions in it."""
    left: list[Any] = [expression]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if "class" in value:
                yield value
            left += value.values()
        elif isinstance(value, list):
            left += value


def _error(condition: str, got: str, wanted: str) -> RawValueError:
    return RawValueError(f"condition {shortened(condition)!r}: {got}, wanted {wanted}")


def _sentence(text: str) -> str:
    first = re.sub(r"^([\w ]+ Error: )+", "", text.partition("\n")[0].partition("! ")[0])
    return shortened(first, MAX_ERROR_CHARACTERS)
