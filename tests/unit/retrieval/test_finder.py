"""Answers to queries: seen and filtered objects never come back, and no other object is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import object2vec
from object2vec.errors import ArtifactError, UserError
from object2vec.schema.columns import Token
from raw_models import film_schema, save_model, schema_of, text_schema

USERS, FILMS = 8, 30
TABLE = {
    "film": list(range(FILMS)),
    "year": [1970 + film % 7 for film in range(FILMS)],
    "title": [f"Film {film}" for film in range(FILMS)],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> object2vec.Model:
    schema = schema_of(
        ((Token("user"),), [{str(user): 1 for user in range(USERS)}]),
        ((Token("film"),), [{str(film): 1 for film in range(FILMS)}]),
    )
    folder = save_model(tmp_path_factory.mktemp("model"), schema, output_layer="mean_squared_error")
    model = object2vec.load(folder)
    model.index(TABLE)
    model.index(side="in0")
    return model


def scores_of(model: object2vec.Model, user: Any) -> np.ndarray:
    return model.score([(user, film) for film in range(FILMS)])[:, 0]


def test_recommendations_have_the_highest_scores(model: object2vec.Model) -> None:
    found = model.recommend({"user": 3}, k=5)
    order = np.argsort(-scores_of(model, 3), kind="stable")[:5]
    assert [each["film"] for each in found] == order.tolist()
    np.testing.assert_allclose([each["score"] for each in found], scores_of(model, 3)[order], rtol=1e-4)
    assert found[0] == {**{name: values[order[0]] for name, values in TABLE.items()}, "score": found[0]["score"]}


def test_columns_of_objects_never_replace_the_score(model: object2vec.Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    copy = object2vec.load(tmp_path)
    copy.index(TABLE | {"score": [7] * FILMS, "rank": [f"r{film}" for film in range(FILMS)]})
    wanted = copy.recommend(3, k=2, where="score = 7 and rank <> 'r99'")
    assert [each["score"] for each in wanted] == [each["score"] for each in model.recommend(3, k=2)]
    assert [each["object_score"] for each in wanted] == [7, 7]
    table = copy.recommend(pd.DataFrame({"user": [3]}), k=2)
    assert table["rank"].tolist() == [1, 2]
    assert table["score"].tolist() == pytest.approx([each["score"] for each in wanted])
    assert table["object_rank"].tolist() == [f"r{film}" for film in table["film"]]


def test_recommend_never_takes_the_query_for_the_other_side(model: object2vec.Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    for path in tmp_path.glob("index-in1*"):
        path.unlink()
    with pytest.raises(ArtifactError, match="no index of in1"):
        object2vec.load(tmp_path).recommend(3)


def test_arguments_of_other_types(model: object2vec.Model) -> None:
    assert model.recommend(3, k=np.int64(2)) == model.recommend(3, k=2)
    best = model.recommend(3, k=1)[0]["film"]
    assert best not in [each["film"] for each in model.recommend(3, exclude=pd.Series([best]))]
    with pytest.raises(UserError, match="condition '5': is no text"):
        model.recommend(3, where=5)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"in0\[0\] has the token -1, wanted a token id"):
        model.recommend([[-1]])


def test_neighbors_are_nearest_by_cosine_without_the_object_itself(model: object2vec.Model) -> None:
    vectors = model.encode(TABLE["film"], "in1")
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similar = unit @ unit[4]
    similar[4] = -np.inf
    found = model.neighbors(4, k=3, side="in1")
    assert [each["film"] for each in found] == np.argsort(-similar)[:3].tolist()
    np.testing.assert_allclose([each["score"] for each in found], np.sort(similar)[::-1][:3], rtol=1e-4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seen=st.lists(st.tuples(st.integers(0, USERS + 1), st.integers(0, FILMS + 1)), max_size=80),
    allowed=st.none() | st.lists(st.integers(0, FILMS + 3), max_size=40),
    year=st.none() | st.integers(1968, 1978),
    k=st.integers(1, FILMS + 5),
    users=st.lists(st.integers(0, USERS + 1), min_size=1, max_size=4),
)
def test_seen_and_filtered_objects_never_come_back(
    model: object2vec.Model,
    seen: list[tuple[int, int]],
    allowed: list[int] | None,
    year: int | None,
    k: int,
    users: list[int],
) -> None:
    """And the answer has the `k` best of all others, as few as they are."""
    exclude = pd.DataFrame(seen, columns=["user", "film"]).astype(int)
    where = None if year is None else f"year >= {year}"
    found = model.recommend(users, k=k, exclude=exclude, allowed=allowed, where=where)
    for user, films in zip(users, found, strict=True):
        possible = {
            film
            for film in range(FILMS)
            if (user, film) not in seen
            and (allowed is None or film in allowed)
            and (year is None or TABLE["year"][film] >= year)
        }
        names = [each["film"] for each in films]
        assert set(names) <= possible
        assert len(set(names)) == len(names) == min(k, len(possible))
        scores = scores_of(model, user)
        best = sorted((scores[film] for film in possible), reverse=True)[:k]
        np.testing.assert_allclose([each["score"] for each in films], best, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("neighbors", [False, True])
def test_excluded_objects_are_a_list_or_a_table(model: object2vec.Model, neighbors: bool) -> None:
    """Objects without a query are excluded from all answers."""
    find = (
        (lambda **limits: model.neighbors(4, k=99, **limits))
        if neighbors
        else (lambda **limits: model.recommend(4, k=99, **limits))
    )
    for exclude in ([1, {"film": 2}], {"film": [1, 2], "rating": [3, 4]}):
        assert {each["film"] for each in find(exclude=exclude)} == set(range(FILMS)) - {1, 2} - (
            {4} if neighbors else set()
        )


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_a_table_gives_a_table_of_the_same_kind(model: object2vec.Model, make: Any) -> None:
    """A row per answer, in the order of the queries, also for repeated ones."""
    queries = make({"user": [3, 2, 3], "other": [1, 2, 3]})
    found = model.recommend(queries, k=2)
    assert type(found) is type(queries)
    table = pa.table(found)
    assert table.column_names == ["user", "rank", "score", "film", "year", "title"]
    assert table["user"].to_pylist() == [3, 3, 2, 2, 3, 3]
    assert table["rank"].to_pylist() == [1, 2] * 3
    single = [each["film"] for user in (3, 2, 3) for each in model.recommend(user, k=2)]
    assert table["film"].to_pylist() == single
    similar = pa.table(model.neighbors(make({"film": [5]}), k=1))
    assert similar.column_names == ["query_film", "rank", "score", "film", "year", "title"]


def test_the_other_side(model: object2vec.Model) -> None:
    """Users for a film, by the same scores; neighbors of users."""
    found = model.recommend(5, k=1, side="in1")
    scores = model.score([(user, 5) for user in range(USERS)])[:, 0]
    assert found[0]["user"] == scores.argmax()
    assert len(model.neighbors(5, k=99, side="in0")) == USERS - 1


def test_an_object_that_is_not_in_the_index_is_encoded(
    model: object2vec.Model, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(model.neighbors("new", k=FILMS, side="in1")) == FILMS
    assert "1 of 1 in1 have an unknown film" in caplog.text


def test_a_saved_model_has_its_index(model: object2vec.Model, tmp_path: Path) -> None:
    """An older index in the folder is removed."""
    (tmp_path / "index-in1.b.old").write_text("x")
    model.save(tmp_path)
    assert object2vec.load(tmp_path).recommend(3) == model.recommend(3)
    assert not (tmp_path / "index-in1.b.old").exists()


def test_a_model_without_a_schema(tmp_path: Path) -> None:
    """Objects are lists of token ids; `exclude` has pairs of them."""
    folder = save_model(tmp_path, film_schema(), output_layer="mean_squared_error")
    for name in ("schema.json", "in0.vocabulary.tsv", "in1.vocabulary.tsv"):
        (folder / name).unlink()
    model = object2vec.load(folder)
    model.index([[token] for token in range(1, 7)], side="in1")
    best = [each["tokens"] for each in model.recommend([3], k=6)]
    scores = model.score([([3], [token]) for token in range(1, 7)])[:, 0]
    assert best == [[token + 1] for token in np.argsort(-scores)]
    seen = {"in0": [[3], [4]], "in1": [best[0], best[1]], "label": [1, 1]}
    assert model.recommend([[3]], k=1, exclude=seen)[0][0]["tokens"] == best[1]
    assert model.neighbors([2], k=1, allowed=[[5], [2]])[0]["tokens"] == [5]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"k": 0}, "k is 0, wanted an integer from 1"),
        ({"k": True}, "k is True"),
        ({"side": "in2"}, "side is 'in2', wanted in0 or in1"),
        ({"exclude": 3}, "exclude is 3, wanted a list of objects, or a table"),
        ({"allowed": {"flim": [3]}}, "there is no column film, the nearest is flim"),
        ({"allowed": "no.csv"}, "no.csv: No such file"),
        ({"where": "yaer > 3"}, "there is no column yaer"),
    ],
)
def test_wrong_arguments_are_one_sentence(model: object2vec.Model, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        model.recommend(3, **arguments)


def test_objects_of_which_the_model_knows_nothing_are_counted(
    model: object2vec.Model, caplog: pytest.LogCaptureFixture
) -> None:
    model.neighbors([4, "new", {"film": None}], k=3, side="in1")
    assert "2 of 3 in1 have no value that the model knows: their neighbors are arbitrary" in caplog.text
    model.recommend(pd.DataFrame({"user": [1, 99]}), k=3)
    assert "1 of 2 in0 have no value that the model knows: their recommendations are those of an" in caplog.text
    caplog.clear()
    model.neighbors([4, 5], k=3, side="in1")
    model.recommend([[3]], k=3)
    assert "no value" not in caplog.text


def test_a_side_without_columns_has_no_neighbors(tmp_path: Path) -> None:
    model = object2vec.load(save_model(tmp_path, text_schema(), num_classes=3))
    with pytest.raises(ArtifactError, match="no index of in0; build one with `object2vec index`"):
        model.neighbors("good")
    with pytest.raises(UserError, match=r"^this model has no columns of in1 and no objects to find, wanted objects of"):
        model.neighbors("good", side="in1")


def test_a_model_without_an_index_names_the_verb(tmp_path: Path) -> None:
    model = object2vec.load(save_model(tmp_path, film_schema()))
    with pytest.raises(ArtifactError, match="no index of in1; build one with `object2vec index`"):
        model.recommend(3)
