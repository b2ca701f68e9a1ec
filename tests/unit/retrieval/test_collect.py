"""The objects of a side, each once: from tables, channels, lists and vocabularies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from object2vec.errors import UserError
from object2vec.retrieval.collect import collect_objects
from object2vec.retrieval.objects import TOKENS, Objects
from raw_models import film_schema, text_schema
from small import configured, write_pairs

RATINGS = """user,film,genres,title,year,rating,code,born
1,a,fun|war,A film,1990.0,3,007,2001-02-03
2,a,fun|war,A film,1990.0,4,007,2001-02-03
1,7,war,Seven,1995.0,3,008,2001-02-04
3,,,nothing,2000.0,3,009,2001-02-05
3,a,fun|war,,1990.0,1,007,2001-02-03
"""


def collect(data: Any, side: Any = None, schema: Any = None) -> list[Objects]:
    return collect_objects(data, schema or film_schema(), configured(), side)


def test_columns_with_one_value_per_object_are_kept(tmp_path: Path) -> None:
    """The most frequent object is first. Text becomes numbers and dates where nothing is lost."""
    (tmp_path / "t.csv").write_text(RATINGS)
    users, films = collect(tmp_path / "t.csv")
    assert users.columns == ["user"]
    assert users.table["user"].to_pylist() == [1, 3, 2]
    records = films.records(range(len(films)))
    assert [list(map(str, record.values())) for record in records] == [
        ["a", "fun|war", "A film", "1990", "007", "2001-02-03"],
        ["7", "war", "Seven", "1995", "008", "2001-02-04"],
    ]
    assert films.where("year < 1995 and born < date '2001-02-04'").tolist() == [True, False]


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "pandas", "arrow", "mapping", "rows"])
def test_all_tables_give_the_same_objects(kind: str, tmp_path: Path) -> None:
    columns = {
        "film": ["a", "b", "a"],
        "genres": [["fun"], ["war", "fun"], ["fun"]],
        "year": [1990, 1995, 1990],
        "user": [1, 2, 3],
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    (tmp_path / "t.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    data = {
        "parquet": tmp_path / "t.parquet",
        "jsonl": str(tmp_path / "t.jsonl"),
        "pandas": pd.DataFrame(columns),
        "arrow": pa.table(columns),
        "mapping": columns,
        "rows": rows,
    }[kind]
    (films,) = collect(data, "in1")
    assert films.records([0, 1]) == [
        {"film": "a", "genres": ["fun"], "year": 1990},
        {"film": "b", "genres": ["war", "fun"], "year": 1995},
    ]
    assert films.rows([{"film": "b", "genres": "war|fun"}]).tolist() == [1]


def test_values_of_several_types_are_text() -> None:
    """3 and "3" are one object; x is not known."""
    (users,) = collect({"user": [3, "3", 4.0, "x"]}, "in0")
    assert sorted(users.table["user"].to_pylist()) == ["3", "4"]


def test_the_vocabulary_of_a_single_column_is_the_default() -> None:
    (users,) = collect(None)
    assert users.side == "in0"
    assert users.table["user"].to_pylist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_token_ids_of_a_channel(tmp_path: Path) -> None:
    """The lists of each side, the most frequent first; empty ones are left out."""
    path = write_pairs(tmp_path / "t.jsonl", [([1], [2, 3], 1), ([2], [3], 0), ([1], [3], 1)])
    first, second = collect_objects(path, None, configured(), None)
    assert first.table[TOKENS].to_pylist() == [[1], [2]]
    assert second.table[TOKENS].to_pylist() == [[3], [2, 3]]
    (given,) = collect_objects([[4], [5, 6], [], [4]], None, configured(), "in1")
    assert given.table[TOKENS].to_pylist() == [[4], [5, 6]]


@pytest.mark.parametrize(
    "data, side, sentence",
    [
        (None, "in1", r"in1 \(film, genres\): the model has no list of these objects; name a table of them"),
        ({"x": [1]}, None, "the table has the columns x, wanted user or film, genres"),
        ({"film": [1]}, "in1", "there is no column genres, the nearest is film"),
        ({"film": [None], "genres": [None]}, "in1", "there are no objects of in1"),
        ("missing.csv", None, "missing.csv: No such file or directory"),
        (3, None, "data is the value 3, wanted a DataFrame"),
    ],
)
def test_data_without_objects_is_refused(data: Any, side: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        collect(data, side)


def test_sides_and_models_without_objects_are_refused() -> None:
    with pytest.raises(UserError, match="in1 has no columns in this model, wanted the other side"):
        collect({"title": ["a"]}, "in1", text_schema())
    with pytest.raises(UserError, match="no list of its objects; name a channel"):
        collect_objects(None, None, configured(), None)
    with pytest.raises(UserError, match="wanted side='in0' or side='in1'"):
        collect_objects([[1]], None, configured(), None)
    with pytest.raises(UserError, match="objects are not lists of token ids"):
        collect_objects(["x"], None, configured(), "in0")
