"""The schema: raw values to token ids and back, saved and loaded."""

from __future__ import annotations

import datetime
import json
import math
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from object2vec.errors import ArtifactError, RawValueError, UserError
from object2vec.schema.columns import Column, List, Text, Token
from object2vec.schema.label import Label
from object2vec.schema.pairs import to_sequences
from object2vec.schema.schema import Schema, SideSchema, check_columns
from object2vec.schema.vocabulary import Vocabulary

pa = pytest.importorskip("pyarrow")

FILMS: list[dict[str, Any]] = [
    {"movie_id": 31, "genres": "Drama|War", "title": "The Straße"},
    {"movie_id": 50, "genres": "Drama", "title": "the war"},
    {"movie_id": 31, "genres": None, "title": ""},
]
COLUMNS = (Token("movie_id"), List("genres", "|"), Text("title"))


def side_schema(columns: tuple[Column, ...], objects: list[dict[str, Any]]) -> SideSchema:
    """Count the tokens of objects one by one."""
    counts = [Counter(text for o in objects for text in column.texts(o.get(column.name))) for column in columns]
    return SideSchema(columns, Vocabulary.empty(columns).extended(counts))


@pytest.fixture
def schema() -> Schema:
    users = side_schema((Token("user_id"),), [{"user_id": 42}, {"user_id": "anna"}])
    return Schema((users, side_schema(COLUMNS, FILMS)), Label("rating", "number"))


def test_ids_are_in_the_documented_order(schema: Schema) -> None:
    """0 and 1 are reserved, each column has an unknown id, then the most frequent value; ties by value and column."""
    encoded = schema.encode("in1", FILMS)
    tokens = [schema["in1"].vocabulary.token(token) for token in range(schema["in1"].vocabulary.size)]
    assert tokens[:5] == [None, None, (0, None), (1, None), (2, None)]
    assert tokens[5:] == [(0, "31"), (1, "Drama"), (2, "the"), (0, "50"), (1, "War"), (2, "straße"), (2, "war")]
    assert encoded.offsets.tolist() == [0, 5, 9, 10]
    assert encoded.ids.tolist() == [5, 6, 9, 7, 10, 8, 6, 7, 11, 5]
    assert (encoded.offsets.dtype, encoded.ids.dtype) == (np.int64, np.int32)


def test_unknown_values_get_the_id_of_their_column(schema: Schema) -> None:
    encoded = schema.encode("in1", [{"movie_id": 9, "genres": ["Drama", "X"]}, {"movie_id": 31}])
    assert encoded.ids.tolist() == [2, 6, 3, 5]
    assert {name: rows.tolist() for name, rows in encoded.unknown.items()} == {
        "movie_id": [True, False],
        "genres": [True, False],
    }
    assert schema.decode("in1", encoded) == [{"movie_id": None, "genres": ["Drama", None]}, {"movie_id": "31"}]


def test_an_object_is_known_by_any_of_its_values(schema: Schema) -> None:
    objects = [{"movie_id": 9, "genres": ["Drama"]}, {"movie_id": 9}, {}]
    assert schema["in1"].knows(to_sequences(schema.encode("in1", objects))).tolist() == [True, False, False]
    assert schema["in0"].knows(to_sequences(schema.encode("in0", ["anna", "bob"]))).tolist() == [True, False]
    no_columns = SideSchema((), Vocabulary.empty(()))
    assert no_columns.knows(to_sequences(no_columns.encoded([], 2))).tolist() == [True, True]


def test_a_side_with_one_column_takes_its_values(schema: Schema) -> None:
    given = [42, "42", 42.0, np.int64(42), {"user_id": 42}, None, {}, math.nan, ""]
    encoded = schema.encode("in0", given)
    assert np.diff(encoded.offsets).tolist() == [1] * 5 + [0] * 4
    assert set(encoded.ids.tolist()) == {3}


@pytest.mark.parametrize("column", [Token("x"), Token("x", buckets=9), List("x", "|"), Text("x")])
@pytest.mark.parametrize(
    "values",
    [[1, 2, 42], ["1", "b", "A|b"], ["a", "", "z"], [["a", "b"], [], ["z"]], [[1], [2, 1]], [["a", 1], "1|b", None]],
    ids=str,
)
def test_objects_have_the_same_ids_together_and_alone(column: Column, values: list[Any]) -> None:
    """Values of one type take a shorter path than others, and a list of one value does too."""
    if not isinstance(column, List):
        values = [value for value in values if not isinstance(value, list)]
    side = SideSchema((column,), Vocabulary.empty((column,)).extended([{"1": 3, "a": 2, "b": 1}]))
    schema = Schema((side, side))
    objects = [{"x": value} for value in values]
    together = schema.encode("in0", objects)
    alone = [schema.encode("in0", [each]) for each in objects]
    texts = [[text for text in column.texts(value) if not column.buckets] for value in values]
    known = side.vocabulary.ids[0]
    assert together.to_lists() == [ids for each in alone for ids in each.to_lists()]
    assert column.buckets or together.to_lists() == [[known.get(text, 2) for text in row] for row in texts]
    assert together.unknown.get("x", np.zeros(len(values))).tolist() == [bool(each.unknown) for each in alone]


@pytest.mark.parametrize(
    ("side", "value", "sentence"),
    [
        ("in0", {"user": 1}, "in0[1] has the column 'user', the nearest is user_id"),
        ("in0", {"user_id": [1]}, "in0[1].user_id is the list [1], wanted a string, a number or null"),
        ("in0", [1], "in0[1].user_id is the list [1], wanted a string, a number or null"),
        ("in1", 5, "in1[1] is the value 5, wanted an object with these columns: movie_id, genres, title"),
        ("in1", {"genres": [[1]]}, "in1[1].genres is the list [1], wanted a list, or text separated by '|'"),
        ("in1", {"title": {"a": 1}}, "in1[1].title is the object {'a': 1}, wanted text"),
        ("in1", {"title": "\ud800"}, "in1[1].title is the string '\\ud800', which is not Unicode, wanted text"),
    ],
)
def test_malformed_values_are_named(schema: Schema, side: Any, value: Any, sentence: str) -> None:
    with pytest.raises(RawValueError) as raised:
        schema.encode(side, [{}, value])
    assert str(raised.value) == sentence


def test_a_side_without_columns_is_one_token(schema: Schema) -> None:
    empty = SideSchema((), Vocabulary.empty(()))
    schema = Schema((schema["in0"], empty))
    assert schema.encode("in1", [None, {}]).ids.tolist() == [1, 1]
    assert schema.encode_columns("in1", {"user_id": [1, 2, 3]}).ids.tolist() == [1, 1, 1]


def test_hashed_values_have_two_ids_and_need_no_vocabulary() -> None:
    columns = (Token("user", buckets=10), Token("city"), List("tags", None, 5))
    side = side_schema(columns, [{"user": 1, "city": "Rome", "tags": ["x"]}])
    schema = Schema((side, side))
    encoded = schema.encode("in0", [{"user": "a", "city": "Rome", "tags": ["p", "q"]}, {"user": 1}])
    assert np.diff(encoded.offsets).tolist() == [7, 2]
    assert encoded.ids[2] == side.vocabulary.first_id == side.vocabulary.size - 1 == 20
    assert set(encoded.ids[[0, 1, 7, 8]]) <= set(range(5, 15))
    assert set(encoded.ids[3:7]) <= set(range(15, 20))
    assert not encoded.unknown
    assert schema.decode("in0", encoded)[0] == {"user": None, "city": "Rome", "tags": [None, None]}


def test_extended_vocabulary_keeps_ids() -> None:
    first = Vocabulary.empty((Token("a"),)).extended([{"x": 3, "y": 1}])
    second = first.extended([{"y": 9, "z": 2, "w": 2}])
    assert second.lookup(0, ["x", "y", "w", "z"])[:, 0].tolist() == [3, 4, 5, 6]


def test_rare_words_are_unknown() -> None:
    columns = (Token("a", min_count=2), Text("b", min_count=2, max_vocabulary=1))
    vocabulary = Vocabulary.empty(columns).extended([{"x": 2, "y": 1}, {"p": 3, "q": 4, "r": 1}])
    assert vocabulary.lookup(0, ["x", "y"])[:, 0].tolist() == [5, 2]
    assert vocabulary.lookup(1, ["p", "q", "r"])[:, 0].tolist() == [3, 4, 3]


def test_a_vocabulary_fits_the_hyperparameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the most frequent values have an id if there are too many."""
    monkeypatch.setattr("object2vec.schema.vocabulary.MAX_VOCABULARY", 5)
    vocabulary = Vocabulary.empty((Token("a"),)).extended([{"x": 1, "y": 2, "z": 3}])
    assert (vocabulary.size, list(vocabulary.values)) == (5, ["z", "y"])


def test_tied_sides_share_a_vocabulary(tmp_path: Path) -> None:
    """Both sides have the ids of the first side's columns."""
    own = side_schema((Text("premise"),), [{"premise": "a dog runs"}])
    schema = Schema((own, SideSchema((Text("hypothesis"),), own.vocabulary)), tied=True)
    schema.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in0.vocabulary.tsv", "schema.json"]
    for each in (schema, Schema.load(tmp_path)):
        assert each.encode("in0", ["a dog"]).ids.tolist() == each.encode("in1", ["a dog"]).ids.tolist()
    with pytest.raises(UserError, match="tied sides have 1 and 2 columns, wanted the same number"):
        check_columns(([Token("a")], [Token("b"), Token("c")]), tied=True)


RAW = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(allow_nan=False, allow_infinity=False, places=3),
    st.dates(),
    st.datetimes(),
    st.text(st.characters(exclude_categories=("Cs",))),
)
OBJECTS = st.lists(
    st.fixed_dictionaries(
        {"movie_id": RAW, "genres": st.one_of(st.lists(RAW), RAW), "title": RAW},
    ),
    max_size=8,
)


@settings(max_examples=100, deadline=None)
@given(OBJECTS)
def test_raw_values_survive_a_round_trip(
    tmp_path_factory: pytest.TempPathFactory, objects: list[dict[str, Any]]
) -> None:
    """Known values are decoded to their text, also by a schema that was saved and loaded."""
    side = side_schema(COLUMNS, objects)
    schema = Schema((side, side_schema((), [])))
    folder = tmp_path_factory.mktemp("schema")
    schema.save(folder)
    for each in (schema, Schema.load(folder)):
        encoded = each.encode("in0", objects)
        assert not encoded.unknown
        for found, raw in zip(each.decode("in0", encoded), objects, strict=True):
            texts = [list(column.texts(raw[column.name])) for column in COLUMNS]
            wanted = {"movie_id": "".join(texts[0]), "genres": texts[1], "title": " ".join(texts[2])}
            assert found == {name: value for name, value in wanted.items() if value}


@settings(max_examples=100, deadline=None)
@given(OBJECTS)
def test_columns_give_the_same_ids_as_objects(objects: list[dict[str, Any]]) -> None:
    """A column of any types has the same ids and unknown values as one object after the other."""
    side = side_schema(COLUMNS, objects[::2])
    schema = Schema((side, side_schema((), [])))
    one_by_one = schema.encode("in0", objects)
    columns = {column.name: [each[column.name] for each in objects] for column in COLUMNS}
    together = schema.encode_columns("in0", columns)
    assert together.offsets.tolist() == one_by_one.offsets.tolist()
    assert together.ids.tolist() == one_by_one.ids.tolist()
    assert {k: v.tolist() for k, v in together.unknown.items()} == {
        k: v.tolist() for k, v in one_by_one.unknown.items()
    }


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1, None, 31], pa.int32()),
        pa.array([1.0, float("nan"), 31.0]),
        pa.array(["1", "", "31"]),
        pa.array(["1", None, "31"], pa.large_string()),
        pa.array(["1", None, "31"]).dictionary_encode(),
        pa.chunked_array([pa.array(["1"]), pa.array([None, "31"])]),
        pa.array([Decimal("1.0"), None, Decimal("31.0")]),
        np.array([1, np.nan, 31]),
    ],
    ids=lambda array: str(getattr(array, "type", "numpy")),
)
def test_types_of_columns(schema: Schema, array: Any) -> None:
    side = SideSchema((Token("movie_id"),), Vocabulary.empty((Token("movie_id"),)).extended([{"31": 2, "1": 1}]))
    encoded = Schema((side, side)).encode_columns("in1", {"movie_id": array})
    assert encoded.offsets.tolist() == [0, 1, 1, 2]
    assert encoded.ids.tolist() == [4, 3]


@pytest.mark.parametrize("kind", ["pandas", "polars", "list"])
def test_tables_of_other_libraries(schema: Schema, kind: str) -> None:
    table = {
        "movie_id": [31, 50, 31],
        "genres": [["Drama", "War"], ["Drama"], []],
        "title": ["The Straße", "the war", ""],
    }
    frame = table if kind == "list" else pytest.importorskip(kind).DataFrame(table)
    columns = {name: frame[name] for name in table}
    assert schema.encode_columns("in1", columns).ids.tolist() == schema.encode("in1", FILMS).ids.tolist()


def test_dates_are_the_same_text_in_all_formats() -> None:
    moment = datetime.datetime(2020, 1, 2, 3, 4, 5)
    columns = (Token("day"), Token("time"))
    side = side_schema(columns, [{"day": "2020-01-02", "time": "2020-01-02 03:04:05"}])
    schema = Schema((side, side))
    arrays = {"day": pa.array([moment.date()]), "time": pa.array([moment])}
    assert not schema.encode_columns("in0", arrays).unknown
    assert not schema.encode("in0", [{"day": moment.date(), "time": moment}]).unknown


def test_missing_column_of_a_table(schema: Schema) -> None:
    with pytest.raises(RawValueError, match="there is no column user_id, the nearest is userid"):
        schema.encode_columns("in0", {"userid": [1], "x": [2]})


def test_schema_file_is_readable(schema: Schema, tmp_path: Path) -> None:
    schema.save(tmp_path)
    assert json.loads((tmp_path / "schema.json").read_text()) == {
        "format_version": 1,
        "in0": ["user_id"],
        "in1": ["movie_id", "genres:list(|)", "title:text"],
        "label": {"column": "rating", "kind": "number"},
        "tied": False,
    }
    assert (tmp_path / "in0.vocabulary.tsv").read_text() == "user_id=42\t1\nuser_id=anna\t1\n"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format_version": None}, "no format_version"),
        ({"format_version": 2}, "it has format 2, wanted 1 or older; use a newer object2vec"),
        ({"in0": "user_id"}, '"in0" must be a list of columns like "user_id", got the string \'user_id\''),
        ({"in0": ["a", "a"]}, "in0 has the column a twice, wanted each once"),
        (
            {"in0": ["a:text(x=1)"]},
            "column 'a:text(x=1)': no option x, wanted one of buckets, max_vocabulary, min_count",
        ),
        ({"tied": 1}, '"tied" must be true or false, got the value 1'),
        ({"weight": 1}, '"weight" must be null or the name of a column, got the value 1'),
        ({"label": 1}, '"label" must be null or an object with "column", "kind" and "classes", got the value 1'),
        (
            {"label": {"column": "a", "kind": "class", "classes": [1]}},
            '"classes" must be a list of names, got the list [1]',
        ),
    ],
)
def test_faults_of_a_schema_file(schema: Schema, tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    schema.save(tmp_path)
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactError) as raised:
        Schema.load(tmp_path)
    assert str(raised.value) == f"{path}: {sentence}; wanted a schema that `object2vec prepare` wrote"


@pytest.mark.parametrize("line", ["user_id=42", "user=42\t1", "user_id=\t1", "42\t1", "user_id=42\tx", ""])
def test_faults_of_a_vocabulary_file(schema: Schema, tmp_path: Path, line: str) -> None:
    schema.save(tmp_path)
    path = tmp_path / "in0.vocabulary.tsv"
    path.write_text(f"user_id=1\t1\n{line}\n")
    with pytest.raises(ArtifactError) as raised:
        Schema.load(tmp_path)
    assert str(raised.value) == f"{path}, line 2: got {line!r}, wanted column=value, a tab and a count of user_id"


def test_missing_vocabulary_file(schema: Schema, tmp_path: Path) -> None:
    schema.save(tmp_path)
    (tmp_path / "in1.vocabulary.tsv").unlink()
    with pytest.raises(ArtifactError, match="No such file or directory, wanted column=value, a tab and a count"):
        Schema.load(tmp_path)
