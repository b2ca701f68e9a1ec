"""Labels of objects in Python: calibrated when training ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import object2vec
from object2vec.errors import UserError
from object2vec.retrieval.label_probabilities import LabelProbabilities

pd = pytest.importorskip("pandas")

GENRES = {"ghost": "Horror", "kiss": "Romance", "joke": "Comedy", "gun": "Action"}
FIT: dict[str, Any] = {"in0": "title:text", "log": "quiet", "epochs": 3, "learning_rate": 0.02}


def films(count: int, seed: int = 0) -> Any:
    """Return films whose title has a word for each of one or two genres, and a word that tells nothing."""
    generator = np.random.default_rng(seed)
    words = [generator.choice(list(GENRES), generator.integers(1, 3), replace=False) for _ in range(count)]
    titles = [" ".join([*row, f"part{number}"]) for number, row in enumerate(words)]
    return pd.DataFrame({"title": titles, "genres": ["|".join(GENRES[word] for word in row) for row in words]})


@pytest.fixture(scope="module")
def model() -> object2vec.Model:
    return object2vec.fit(films(600), label="genres:class(|)", validation=films(50, seed=2), **FIT)


def labels_of(found: object2vec.Model) -> LabelProbabilities:
    labels = LabelProbabilities.read(found.predictor.directory)
    assert labels
    return labels


def test_training_calibrates_labels_on_validation(model: object2vec.Model) -> None:
    """The shares of two certain genres become high probabilities; the threshold separates all genres."""
    test = films(200, seed=1)
    found = labels_of(model)
    assert not found.exclusive
    assert found.objects == 50
    scores = model.score(test)
    has_label = np.array([[name in row.split("|") for name in sorted(GENRES.values())] for row in test.genres])
    assert scores[has_label.sum(axis=1) == 2].max() < 0.9
    assert found(scores)[has_label].mean() > 0.9
    assert ((found(scores) >= found.threshold) == has_label).mean() > 0.98


def test_one_label_per_object_gets_a_temperature() -> None:
    train, validation = (films(count).assign(genre=lambda table: table.genres.str[:3]) for count in (300, 40))
    found = object2vec.fit(train, label="genre:class", validation=validation, **FIT)
    saved = labels_of(found)
    assert saved.exclusive
    assert saved.objects == 40
    np.testing.assert_allclose(saved(found.score(validation)).sum(axis=1), 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"label": "genres:class(|)", "split": "none"},
        {"label": "number", "in0": "title:text"},
        {"label": "kind:class", "in1": "other"},
    ],
)
def test_other_models_are_not_calibrated(changes: dict[str, Any]) -> None:
    """Without validation, for numbers, and for classes of pairs."""
    table = films(60).assign(number=range(60), kind=["a", "b"] * 30, other=range(60))
    found = object2vec.fit(table, **FIT | changes)
    assert LabelProbabilities.read(found.predictor.directory) is None


def test_recommend_gives_the_most_probable_labels(model: object2vec.Model) -> None:
    """Labels have the calibrated probability of the scores; those from the threshold on are predicted."""
    found = model.recommend("ghost joke", k=3)
    assert [list(each) for each in found] == [["genres", "probability", "predicted"]] * 3
    assert {each["genres"] for each in found[:2]} == {"Horror", "Comedy"}
    assert [each["predicted"] for each in found] == [True, True, False]
    probabilities = labels_of(model)(model.score([("ghost joke", {})]))[0]
    assert [each["probability"] for each in found] == pytest.approx(sorted(probabilities, reverse=True)[:3])


def test_one_object_a_list_and_a_table_get_the_same_labels(model: object2vec.Model) -> None:
    """A table has a row for each label, with the columns of its query."""
    table = films(20, seed=3)
    found = model.recommend(table, k=2)
    assert list(found.columns) == ["title", "rank", "genres", "probability", "predicted"]
    assert found.title.tolist() == table.title.repeat(2).tolist()
    assert found["rank"].tolist() == [1, 2] * 20
    lists = model.recommend(table.title.tolist(), k=2)
    flat = pd.DataFrame([row for rows in lists for row in rows])
    pd.testing.assert_frame_equal(flat, found[flat.columns], rtol=1e-5, check_dtype=False)
    alone = pd.DataFrame(model.recommend(table.title[0], k=2))
    pd.testing.assert_frame_equal(alone, flat[:2], rtol=1e-5)
    assert len(model.recommend({"title": "ghost"})) == 4  # all labels


def test_scores_are_not_changed_by_the_calibration(model: object2vec.Model) -> None:
    before = model.score(films(5))
    model.recommend(films(5))
    np.testing.assert_array_equal(model.score(films(5)), before)
    np.testing.assert_allclose(before.sum(axis=1), 1, rtol=1e-6)


def test_a_model_without_validation_gives_its_scores(caplog: pytest.LogCaptureFixture) -> None:
    """They are not said to be predictions; a warning says why."""
    found = object2vec.fit(films(60), label="genres:class(|)", split="none", **FIT)
    records = found.recommend("ghost", k=1)
    assert list(records[0]) == ["genres", "probability"]
    assert records[0]["probability"] == pytest.approx(found.score([("ghost", {})]).max())
    assert found.evaluate(films(5)).labels is None
    warning = "labels are not calibrated: the model was trained without validation pairs"
    assert [record.message for record in caplog.records if "calibrated" in record.message] == [warning]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"side": "in1"}, "side is in1, wanted in0: this model recommends labels for the objects of in0"),
        ({"where": "year > 1990"}, "where is given, wanted no limits: this model recommends labels"),
        ({"exclude": [1]}, "exclude is given, wanted no limits: this model recommends labels"),
        ({"k": 0}, "k is 0, wanted an integer from 1 to 100,000"),
    ],
)
def test_arguments_that_labels_do_not_have_are_refused(
    model: object2vec.Model, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=f"^{sentence}$"):
        model.recommend("ghost", **arguments)


def test_evaluate_measures_the_predicted_labels(model: object2vec.Model) -> None:
    """The metrics are those of the labels that `recommend` predicts; a baseline has the same labels for all."""
    test = films(100, seed=4)
    evaluation = model.evaluate(test, films(600))
    found = evaluation.labels
    assert found
    assert found.objects == 100
    assert found.threshold == labels_of(model).threshold
    answers = model.recommend(test.title.tolist())
    predicted = [{each["genres"] for each in answer if each["predicted"]} for answer in answers]
    true = [set(text.split("|")) for text in test.genres]
    hits = sum(len(a & b) for a, b in zip(predicted, true, strict=True))
    metrics = found.metrics["model"]
    assert metrics["precision"] == hits / sum(map(len, predicted))
    assert metrics["recall"] == hits / sum(map(len, true))
    assert metrics["micro_f1"] == pytest.approx(2 / (1 / metrics["precision"] + 1 / metrics["recall"]))
    assert found.metrics["label frequencies"]["micro_f1"] < 0.7 < metrics["micro_f1"]
    assert f"labels of 100 in0, predicted from {found.threshold:.2f} on" in str(evaluation)
    assert evaluation.to_dict()["labels"]["metrics"] == found.metrics
