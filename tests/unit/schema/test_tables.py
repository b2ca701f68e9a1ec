"""Tables of Python libraries as columns, and pairs from them: the same for each library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from object2vec.errors import RawValueError, UserError
from object2vec.schema.arrays import column_codes
from object2vec.schema.columns import Column, List, Text, Token
from object2vec.schema.label import Label
from object2vec.schema.pairs import encode_objects, encode_pairs
from object2vec.schema.schema import Schema, SideSchema
from object2vec.schema.tables import to_columns
from object2vec.schema.vocabulary import Vocabulary

duckdb, pa, pd, pl = map(pytest.importorskip, ("duckdb", "pyarrow", "pandas", "polars"))

ROWS = [
    {"user": 1, "film": "a", "genres": ["x", "y"], "stars": 4.0},
    {"user": 2, "film": "b", "genres": [], "stars": 2.5},
    {"user": 9, "film": None, "genres": ["y", "z"], "stars": 1.0},
]
COLUMNS: dict[str, Any] = {name: [row[name] for row in ROWS] for name in ROWS[0]}
FORMS: dict[str, Callable[[], Any]] = {
    "rows": lambda: ROWS,
    "generator": lambda: iter(ROWS),
    "columns": lambda: COLUMNS,
    "numpy": lambda: {name: np.array(values, object if name == "genres" else None) for name, values in COLUMNS.items()},
    "pandas": lambda: pd.DataFrame(ROWS),
    "polars": lambda: pl.DataFrame(ROWS),
    "arrow": lambda: pa.Table.from_pylist(ROWS),
    "duckdb": lambda: duckdb.connect().from_arrow(pa.Table.from_pylist(ROWS)),
}


def schema(label: Label | None = None) -> Schema:
    sides = (
        ((Token("user"),), [{"1": 2, "2": 1}]),
        ((Token("film"), List("genres")), [{"a": 1, "b": 1}, {"x": 1, "y": 2}]),
    )
    first, second = (SideSchema(columns, Vocabulary.empty(columns).extended(counts)) for columns, counts in sides)
    return Schema((first, second), label)


@pytest.mark.parametrize("form", FORMS)
def test_each_library_gives_the_same_pairs(form: str) -> None:
    wanted, _ = encode_pairs(schema(Label("stars", "number")), COLUMNS)
    found, _ = encode_pairs(schema(Label("stars", "number")), to_columns(FORMS[form]()))
    assert found.checksum == wanted.checksum
    assert found.labels.tolist() == [4, 2.5, 1]
    assert [found.in0.slice(i, i + 1).values.tolist() for i in range(3)] == [[3], [4], [2]], "user 9 is unknown"


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("third", ["e", None])
@pytest.mark.parametrize("column", [Text("text"), Token("text"), List("text", "|")])
def test_a_part_of_an_arrow_array_has_its_own_rows(column: Column, kind: Any, third: str | None) -> None:
    texts = pa.array(["a b|c", "d", third, "é f|g", "h"], kind)
    for first in range(5):
        wanted = column_codes(column, texts[first:].to_pylist())
        found = column_codes(column, texts[first:])
        assert found.lengths.tolist() == wanted.lengths.tolist()
        assert found.texts.take(pa.array(found.codes)) == wanted.texts.take(pa.array(wanted.codes))


def test_rows_may_lack_columns() -> None:
    assert to_columns([{"a": 1}, {"b": 2}]) == {"a": [1, None], "b": [None, 2]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("ratings", "data is the string 'ratings', wanted a DataFrame"),
        (3, "data is the value 3, wanted"),
        ([{"a": 1}, [2]], r"data\[1\] is the list \[2\], wanted"),
        ({"a": [1], "b": [1, 2]}, "columns have different lengths: a has 1, b has 2"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "the table has the column a twice"),
    ],
)
def test_what_is_no_table_is_an_error(data: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        to_columns(data)


def test_without_a_label_all_pairs_are_positives() -> None:
    assert encode_pairs(schema(), COLUMNS)[0].labels.tolist() == [1, 1, 1]


def test_several_labels_of_a_row_are_a_pair_each() -> None:
    label = Label("tags", "class", ("x", "y", "z"), separator="|")
    for tags in (["x", "y|z", "z"], [["x"], ["y", "z"], ["z"]]):
        pairs, skipped = encode_pairs(schema(label), {**COLUMNS, "tags": tags})
        assert not +skipped
        assert pairs.labels.tolist() == [0, 1, 2, 2]
        assert pairs.in0.values.tolist() == [3, 4, 4, 2]


def test_rows_that_lack_a_label_or_a_side_are_skipped_and_counted() -> None:
    """The other rows keep their labels, also if the number of pairs is that of the rows."""
    columns = {**COLUMNS, "stars": [1, None, 3]}
    pairs, skipped = encode_pairs(schema(Label("stars", "number")), columns)
    assert pairs.labels.tolist() == [1, 3]
    assert pairs.in0.values.tolist() == [3, 2]
    assert +skipped == {"label": 1}
    label = Label("tags", "class", ("x", "y"), separator="|")
    pairs, skipped = encode_pairs(schema(label), {**COLUMNS, "tags": ["x|y", "", "y"], "user": [1, 2, None]})
    assert pairs.labels.tolist() == [0, 1]
    assert pairs.in0.values.tolist() == [3, 3]
    assert +skipped == {"label": 1, "in0": 1}


def test_a_missing_column_is_named_with_the_nearest() -> None:
    with pytest.raises(RawValueError, match="no column user, the nearest is users"):
        encode_pairs(schema(), {"users": [1], "film": ["a"], "genres": [[]]})


def test_objects_are_token_ids_or_raw_values() -> None:
    lists, encoded = encode_objects(schema(), "in0", [[7, 8], "1", {"user": 5}, 2, np.array([4])])
    assert lists == [[7, 8], [3], [2], [4], [4]]
    assert {name: rows[1] for name, rows in encoded.unknown.items()} == {"user": True}
