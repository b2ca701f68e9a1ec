"""Labels of objects in Python: calibrated when training ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import object2vec
from object2vec import artifact
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


def labels_of(found: object2vec.Model) -> Any:
    return artifact.read_training(found.predictor.directory).get("labels")


def test_training_calibrates_labels_on_validation(model: object2vec.Model) -> None:
    """The shares of two certain genres become high probabilities; the threshold separates all genres."""
    test = films(200, seed=1)
    found = LabelProbabilities.from_json(labels_of(model))
    assert not found.exclusive
    assert found.objects == 50
    scores = model.score(test)
    has_label = np.array([[name in row.split("|") for name in sorted(GENRES.values())] for row in test.genres])
    assert scores[has_label.sum(axis=1) == 2].max() < 0.8
    assert found(scores)[has_label].mean() > 0.9
    assert ((found(scores) >= found.threshold) == has_label).mean() > 0.98


def test_one_label_per_object_gets_a_temperature() -> None:
    train, validation = (films(count).assign(genre=lambda table: table.genres.str[:3]) for count in (300, 40))
    found = object2vec.fit(train, label="genre:class", validation=validation, **FIT)
    saved = LabelProbabilities.from_json(labels_of(found))
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
    assert labels_of(object2vec.fit(table, **FIT | changes)) is None
