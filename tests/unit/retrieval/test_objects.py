"""Objects: found by their values however these are written, with the columns of their table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from object2vec.errors import RawValueError
from object2vec.retrieval.objects import TOKENS, Objects, column_keys, object_keys
from object2vec.schema.columns import Text
from raw_models import film_schema, schema_of

TABLE = {"film": ["a", "7", "b"], "genres": ["fun|war", None, "war"], "year": [1990, 2001, None]}
VALUES = st.one_of(st.none(), st.integers(), st.floats(), st.text(st.characters(exclude_categories=["Cs"])))
GENRES = st.lists(st.sampled_from(["fun", "war", "x y"]))


@pytest.fixture
def objects() -> Objects:
    return Objects.from_table(film_schema(), "in1", pa.record_batch(TABLE))


def test_objects_are_found_by_their_values(objects: Objects) -> None:
    """7 and "7" are one value; a list and text with a separator are one list; the order of a list counts."""
    given: list[Any] = [
        {"film": "a", "genres": ["fun", "war"]},
        {"genres": "war", "film": "b"},
        {"film": 7},
        {"film": 7.0, "genres": []},
        {"film": "a", "genres": "war|fun"},
        {"film": "c"},
        {},
    ]
    assert objects.rows(given).tolist() == [0, 2, 1, 1, -1, -1, -1]
    assert objects.records([2, 0]) == [
        {"film": "b", "genres": "war", "year": None},
        {"film": "a", "genres": "fun|war", "year": 1990},
    ]


def test_a_list_of_token_ids_is_the_object_with_these_values() -> None:
    schema = film_schema()
    ids = schema.encode("in1", [{"film": "a", "genres": ["fun", "war"]}, {"film": "b", "genres": "war"}]).to_lists()
    objects = Objects.from_table(schema, "in1", pa.record_batch({"film": ["b", "a"], "genres": ["war", "fun|war"]}))
    assert objects.rows([*ids, [1]]).tolist() == [1, 0, -1]


def test_texts_with_the_same_words_are_different_objects() -> None:
    schema = schema_of(((Text("title"),), [{"good": 1}]), ((Text("title"),), [{"good": 1}]))
    objects = Objects.from_table(schema, "in1", pa.record_batch({"title": ["Good", "good"]}))
    assert objects.rows(["good", "Good", "GOOD"]).tolist() == [1, 0, -1]


def test_objects_that_are_written_in_different_ways_are_found_together() -> None:
    """Searches of several requests are one batch, and each has a way of its own."""
    schema = schema_of(((Text("title"),), [{"good": 1, "7": 1}]), ((Text("title"),), [{"good": 1, "7": 1}]))
    objects = Objects.from_table(schema, "in1", pa.record_batch({"title": ["Good", "good", "7"]}))
    ids = schema.encode("in1", ["good"]).to_lists()[0]
    assert objects.rows(["Good", {"title": "good"}, 7, ids, {"title": 7}, None]).tolist() == [0, 1, 2, 1, 2, -1]


@given(st.lists(st.tuples(VALUES, GENRES), min_size=1, max_size=9))
def test_rows_and_columns_have_the_same_keys(rows: list[tuple[Any, list[str]]]) -> None:
    """A batch of objects is found as each object by itself is."""
    schema = film_schema()
    films, genres = map(list, zip(*rows, strict=True))
    single = [object_keys(schema, "in1", [{"film": film, "genres": own}])[0] for film, own in rows]
    assert column_keys(schema, "in1", {"film": films, "genres": genres}).tolist() == single
    objects = [{"film": film, "genres": own} for film, own in rows]
    assert object_keys(schema, "in1", objects).tolist() == single


def test_lists_of_token_ids_are_objects_of_a_model_without_a_schema() -> None:
    table = pa.record_batch({TOKENS: pa.array([[3], [5, 8], [8, 5]], pa.large_list(pa.int32()))})
    objects = Objects.from_table(None, "in0", table)
    assert objects.rows([[5, 8], [8, 5], [3], [3, 0]]).tolist() == [1, 2, 0, -1]
    assert objects.sequences(1, 3).values.tolist() == [5, 8, 8, 5]


def test_a_wrong_value_is_named(objects: Objects) -> None:
    with pytest.raises(RawValueError, match=r"in1\[0\] has the column 'flim', the nearest is film"):
        objects.rows([{"flim": 3}])
    with pytest.raises(RawValueError, match=r"in1\[1\].film is the list \[3\], wanted a string"):
        objects.rows([{"film": 3}, {"film": [3]}])


def test_random_keys_are_found() -> None:
    """All of many objects are found, in any order."""
    values = np.random.default_rng(0).permutation(5000)
    schema = film_schema()
    objects = Objects.from_table(schema, "in0", pa.record_batch({"user": values}))
    assert objects.rows(values[::-1].tolist()).tolist() == list(range(5000))[::-1]
    assert (objects.rows((values + 5000).tolist()) == -1).all()
