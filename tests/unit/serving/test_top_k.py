"""Instances with top_k: the answers of an index, what they leave out, and one sentence for each error."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from object2vec.retrieval.objects import Objects
from object2vec.serving import search as search_module
from object2vec.serving.application import create_app
from object2vec.serving.predictor import Predictor
from raw_models import film_schema, post, predictions, save_model, text_schema, write_index
from small import configured, network_of

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
FILMS: dict[str, list[Any]] = {
    "film": ["a", "b", "a", "b", "c", "c"],
    "genres": ["fun", "fun|war", "war", "", "war", "fun"],
    "year": [1990, 2001, None, 1985, 2010, 2020],
}
FILM_COUNT = len(FILMS["film"])
USERS = {"user": [str(user) for user in range(1, 9)]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of users and films, with an index of both sides."""
    model = save_model(tmp_path_factory.mktemp("films"), film_schema(), output_layer="mean_squared_error")
    write_index(model, "in1", FILMS)
    write_index(model, "in0", USERS)
    return model


@pytest.fixture(scope="module")
def films(model: Path) -> FlaskClient:
    return create_app(Predictor.load(model)).test_client()


def film(row: int) -> dict[str, Any]:
    return {"film": FILMS["film"][row], "genres": FILMS["genres"][row]}


def refusal(client: FlaskClient, *instances: Any, **headers: str) -> str:
    """Return the sentence of a refused request."""
    reply = post(client, {"instances": instances}, **headers)
    assert reply.status_code == 400, reply.text
    message: str = reply.get_json()["message"]
    assert "\n" not in message
    return message


def rows_of(records: list[dict[str, Any]]) -> list[int]:
    """Return the places in FILMS of the films in an answer."""
    keys = list(zip(FILMS["film"], FILMS["genres"], strict=True))
    return [keys.index((record["film"], record["genres"])) for record in records]


def film_scores(client: FlaskClient, user: int) -> list[float]:
    pairs = [{"in0": user, "in1": film(row)} for row in range(FILM_COUNT)]
    return [answer["scores"][0] for answer in predictions(client, *pairs)]


# Answers.


def test_recommendations_are_the_objects_with_the_best_scores_of_pairs(films: FlaskClient) -> None:
    [answer] = predictions(films, {"in0": {"user": 3}, "top_k": 4})
    scores = film_scores(films, 3)
    best = np.argsort(-np.array(scores), kind="stable")[:4].tolist()
    assert rows_of(answer["recommendations"]) == best
    assert [record["score"] for record in answer["recommendations"]] == pytest.approx([scores[row] for row in best])
    assert [record["year"] for record in answer["recommendations"]] == [FILMS["year"][row] for row in best]


def test_neighbors_are_the_most_similar_objects_of_the_same_side(films: FlaskClient) -> None:
    """Without the object itself."""
    vectors = np.array(
        [answer["embeddings"] for answer in predictions(films, *({"in1": film(row)} for row in range(FILM_COUNT)))]
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similar = vectors @ vectors[1]
    [answer] = predictions(films, {"in1": film(1), "top_k": 3, "neighbors": True})
    best = [row for row in np.argsort(-similar).tolist() if row != 1][:3]
    assert rows_of(answer["neighbors"]) == best
    assert [record["score"] for record in answer["neighbors"]] == pytest.approx(similar[best])


@pytest.mark.parametrize("kind", ["application/json", "application/jsonlines", "text/csv"])
def test_neighbors_do_not_contain_the_object_itself_in_any_format(films: FlaskClient, kind: str) -> None:
    bodies = {
        "application/json": json.dumps({"instances": [{"in1": film(1)}]}),
        "application/jsonlines": json.dumps({"in1": film(1)}),
        "text/csv": "film,genres\nb,fun|war\n",
    }
    headers = {ATTRIBUTES: "object2vec-top-k=9,object2vec-neighbors=1", "Accept": "application/jsonlines"}
    reply = post(films, bodies[kind], kind, **headers)
    assert sorted(rows_of(json.loads(reply.data)["neighbors"])) == [0, 2, 3, 4, 5]


def test_users_are_recommended_for_a_film(films: FlaskClient) -> None:
    [answer] = predictions(films, {"in1": film(0), "top_k": 1000})
    assert sorted(record["user"] for record in answer["recommendations"]) == USERS["user"]


def test_unknown_values_are_marked(films: FlaskClient) -> None:
    [answer] = predictions(films, {"in0": 99, "top_k": 1})
    assert answer["unknown"] == ["user"]
    assert len(answer["recommendations"]) == 1
    assert "object2vec-strict" in refusal(films, {"in0": 99, "top_k": 1}, **{ATTRIBUTES: "object2vec-strict=1"})


def test_instances_of_all_kinds_can_be_in_one_request(films: FlaskClient) -> None:
    """Each is answered as if it came alone."""
    instances = [
        {"in0": 1, "top_k": 2},
        {"in0": 2, "in1": film(1)},
        {"in0": 3},
        {"in0": 4, "top_k": 2, "neighbors": True},
        {"in0": 5, "top_k": 2, "exclude": [film(0)], "filter": "year > 1990"},
        {"in1": film(2), "top_k": 3},
        {"in0": [6], "top_k": 2.0},
    ]
    together = predictions(films, *instances)
    alone = [predictions(films, instance)[0] for instance in instances]
    kinds = ["recommendations", "scores", "embeddings", "neighbors", "recommendations", "recommendations"]
    assert [next(iter(answer)) for answer in together] == [*kinds, "recommendations"]
    for one, own in zip(together, alone, strict=True):
        for key in ("neighbors", "recommendations"):
            assert [{**record, "score": pytest.approx(record["score"])} for record in one.get(key, [])] == own.get(
                key, []
            )


def test_concurrent_requests_get_their_own_answers(films: FlaskClient) -> None:
    bodies = [{"in0": 1 + n % 8, "top_k": 1 + n % 3, "filter": f"year > {1980 + 10 * (n % 4)}"} for n in range(64)]
    wanted = [predictions(films, body) for body in bodies[:24]]
    app = films.application

    def ask(body: Any) -> Any:
        return predictions(app.test_client(), body)

    with ThreadPoolExecutor(8) as pool:
        for body, found in zip(bodies, pool.map(ask, bodies), strict=True):
            other = wanted[bodies.index(body)]
            assert rows_of(found[0]["recommendations"]) == rows_of(other[0]["recommendations"])


def test_long_requests_are_answered_in_parts(films: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("object2vec.serving.query.MAX_FOUND", 6)
    instances = [{"in0": 1 + n % 8, **({"top_k": 3} if n % 3 else {})} for n in range(25)]
    found = predictions(films, *instances)
    assert [next(iter(answer)) for answer in found] == ["recommendations" if n % 3 else "embeddings" for n in range(25)]
    for n in range(8, 25):
        assert found[n] == found[n - 24] if n >= 24 else True


def test_the_header_is_for_instances_without_their_own_top_k(films: FlaskClient) -> None:
    headers = {ATTRIBUTES: "object2vec-top-k=2"}
    found = predictions(films, {"in0": 1}, {"in0": [4], "top_k": 3}, {"in0": 3, "neighbors": True}, **headers)
    assert [len(next(iter(answer.values()))) for answer in found] == [2, 3, 2]
    assert list(found[2]) == ["neighbors"]


def test_digits_round_scores(films: FlaskClient) -> None:
    [answer] = predictions(films, {"in0": 1, "top_k": 5}, **{ATTRIBUTES: "object2vec-digits=2"})
    assert all(record["score"] == round(record["score"], 2) for record in answer["recommendations"])


def test_an_array_is_refused(films: FlaskClient) -> None:
    reply = post(films, {"instances": [{"in0": 1, "top_k": 5}]}, Accept="application/x-npy")
    assert reply.status_code == 406
    assert "top_k" in reply.get_json()["message"]


def test_a_server_of_embeddings_recommends_too(model: Path, films: FlaskClient) -> None:
    client = create_app(Predictor.load(model, mode="embedding")).test_client()
    instance = {"in0": 3, "top_k": 4}
    assert predictions(client, instance) == predictions(films, instance)


@pytest.mark.parametrize("key", ["exclude", "filter", "neighbors"])
def test_keys_without_top_k_are_refused_by_a_model_with_a_schema(films: FlaskClient, key: str) -> None:
    assert refusal(films, {"in0": 1}, {"in0": 1, key: "a", "top_k": None}) == (
        f"instances[1] has {key} and no top_k, wanted the number of objects to find"
    )
    assert predictions(films, {"in0": 1, key: None}) == predictions(films, {"in0": 1})


def test_keys_without_top_k_change_nothing_without_a_schema() -> None:
    """Other members of an instance are ignored, as by the built-in."""
    hyperparameters = configured()
    predictor = Predictor(network_of(hyperparameters), hyperparameters, directory=Path("model"))
    client = create_app(predictor).test_client()
    more = {"exclude": 5, "filter": [], "neighbors": "a", "top_k": None}
    assert predictions(client, {"in0": [1], **more}) == predictions(client, {"in0": [1]})


def test_pairs_of_csv_with_top_k_are_refused_with_the_way_to_name_a_side(films: FlaskClient) -> None:
    headers = {ATTRIBUTES: "object2vec-top-k=2"}
    for body, sentence in (
        (
            "1,a,fun\n",
            "line 1 has in0, in1 and top_k, wanted one side: the object to search for; in CSV, the first line",
        ),
        ("1\n2\n", "line 1 has 1 fields, wanted 3: user, film, genres; a first line may name fewer"),
    ):
        reply = post(films, body, "text/csv", **headers)
        assert reply.status_code == 400
        assert reply.get_json()["message"].startswith(sentence)
    assert post(films, "user\n1\n", "text/csv", **headers).status_code == 200


def test_a_text_alone_has_neighbors(tmp_path: Path) -> None:
    """A model of texts alone has no objects of in1, and implies it for each text."""
    model = save_model(tmp_path, text_schema())
    write_index(model, "in0", {"title": ["good", "bad", "good bad", "other"]})
    client = create_app(Predictor.load(model)).test_client()
    asked = {"in0": "good", "top_k": 9, "neighbors": True}
    found = predictions(client, asked, {"in0": "bad"})
    assert sorted(record["title"] for record in found[0]["neighbors"]) == ["bad", "good bad", "other"]
    assert list(found[1]) == ["scores"]
    headers = {ATTRIBUTES: "object2vec-top-k=9,object2vec-neighbors=1"}
    assert predictions(client, {"in0": "good"}, **headers) == predictions(client, asked)


def test_token_ids_are_found_by_token_ids(tmp_path: Path, model: Path) -> None:
    copy = save_model(tmp_path, film_schema())
    for name in ("schema.json", "vocabulary-in0.txt", "vocabulary-in1.txt"):
        (copy / name).unlink(missing_ok=True)
    write_index(copy, "in1", {"tokens": [[4], [4, 6], [5, 7], [6, 6]]})
    client = create_app(Predictor.load(copy)).test_client()
    [answer] = predictions(client, {"in0": [5], "top_k": 9, "exclude": [[4.0], [1, 2, 3]]})
    assert sorted(record["tokens"] for record in answer["recommendations"]) == [[4, 6], [5, 7], [6, 6]]
    [answer] = predictions(client, {"in1": [4, 6], "top_k": 9, "neighbors": True})
    assert sorted(record["tokens"] for record in answer["neighbors"]) == [[4], [5, 7], [6, 6]]
    assert "exclude[0] is the string 'a'" in refusal(client, {"in0": [5], "top_k": 1, "exclude": ["a"]})


# Excluded and filtered objects.


@given(
    asked=st.lists(
        st.fixed_dictionaries(
            {"in0": st.integers(1, 12), "top_k": st.integers(1, 9)},
            optional={
                "exclude": st.lists(st.integers(0, FILM_COUNT - 1).map(film) | st.just([4, 6]), max_size=7),
                "filter": st.integers(1980, 2021).map("year > {}".format),
            },
        ),
        min_size=1,
        max_size=6,
    )
)
def test_excluded_and_filtered_objects_never_come_back(films: FlaskClient, asked: list[dict[str, Any]]) -> None:
    """And all others that are asked for do."""
    for instance, answer in zip(asked, predictions(films, *asked), strict=True):
        excluded = [film(0) if value == [4, 6] else value for value in instance.get("exclude", [])]
        least = int(instance.get("filter", "year > 0").split()[-1])
        allowed = {
            row
            for row in range(FILM_COUNT)
            if film(row) not in excluded and ("filter" not in instance or (FILMS["year"][row] or 0) > least)
        }
        found = rows_of(answer["recommendations"])
        assert set(found) <= allowed
        assert len(found) == len(set(found)) == min(instance["top_k"], len(allowed))


def test_results_of_filters_are_kept_up_to_a_limit(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor.load(model)
    client = create_app(predictor).test_client()
    counted: list[str] = []
    where = Objects.where
    monkeypatch.setattr(Objects, "where", lambda self, condition: counted.append(condition) or where(self, condition))
    monkeypatch.setattr(search_module, "MAX_FILTER_BYTES", 2 * FILM_COUNT)
    for year in (1990, 1990, 2000, 1990, 2010, 2000, 1990):
        predictions(client, {"in0": 1, "top_k": 2, "filter": f"year > {year}"})
    assert counted == ["year > 1990", "year > 2000", "year > 2010", "year > 1990"]
    assert len(predictor.searcher._met) == 2


# Errors.


@pytest.mark.parametrize("value", [0, -1, 1001, 1e9, 1.5, "a", "10", True, [], {}])
def test_a_bad_top_k_is_named(films: FlaskClient, value: Any) -> None:
    message = refusal(films, {"in0": 1}, {"in0": 1, "top_k": value})
    assert message.startswith("instances[1]: top_k is ")
    assert message.endswith("wanted an integer from 1 to 1,000")


@pytest.mark.parametrize("value", ["0", "1001", "a", "1e3", ""])
def test_a_bad_top_k_in_the_header_is_named(films: FlaskClient, value: str) -> None:
    message = refusal(films, {"in0": 1}, **{ATTRIBUTES: f"object2vec-top-k={value}"})
    assert "object2vec-top-k" in message
    assert "from 1 to 1,000" in message


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"neighbors": 1}, "instances[0]: neighbors is the value 1, wanted true or false"),
        ({"exclude": "a"}, "instances[0]: exclude is the string 'a', wanted a list"),
        ({"exclude": [[99]]}, 'instances[0]: exclude[0]: Inconsistent vocab for in1 found. Vocab id "99"'),
        ({"exclude": [film(0), [2**40]]}, "instances[0]: exclude[1]: Inconsistent vocab for in1"),
        ({"exclude": [[4, "x"]]}, "instances[0]: exclude[0] is the list"),
        ({"exclude": ["a"]}, "instances[0]: exclude: in1[0] is the string 'a', wanted an object with these columns"),
        ({"exclude": [{"name": 1}]}, "instances[0]: exclude: in1[0] has the column 'name'"),
        ({"filter": 5}, "instances[0]: filter is the value 5, wanted a condition"),
        ({"filter": "x" * 1001}, "instances[0]: filter has 1001 characters, wanted at most 1000"),
        ({"filter": "age > 5"}, "instances[0]: filter: condition 'age > 5'"),
        ({"filter": "1 = 1; drop table x"}, "instances[0]: filter: condition"),
        ({"filter": "(select count(*) from range(9)) > 1"}, "instances[0]: filter: condition"),
        ({"in1": film(0)}, "instances[0] has in0, in1 and top_k, wanted one side"),
    ],
)
def test_what_an_instance_may_not_ask_is_named(films: FlaskClient, keys: dict[str, Any], sentence: str) -> None:
    assert refusal(films, {"in0": 1, "top_k": 2, **keys}).startswith(sentence)


def test_a_model_without_an_index_names_the_command(tmp_path: Path) -> None:
    client = create_app(Predictor.load(save_model(tmp_path, film_schema()))).test_client()
    message = refusal(client, {"in0": 1, "top_k": 2})
    assert "objects of in1" in message
    assert "`object2vec index --side in1`" in message
    assert "--side in0" in refusal(client, {"in0": 1, "top_k": 2, "neighbors": True})


def test_a_model_whose_scores_have_no_order_says_so(tmp_path: Path) -> None:
    model = save_model(tmp_path, film_schema(), num_classes=3)
    write_index(model, "in1", FILMS)
    client = create_app(Predictor.load(model)).test_client()
    assert "3 classes" in refusal(client, {"in0": 1, "top_k": 2})
    assert predictions(client, {"in1": film(0), "top_k": 2, "neighbors": True})
