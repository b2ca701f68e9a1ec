"""The evaluation of scores on held-out pairs, with baselines, groups by frequency, and rankings."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from object2vec.data.sequences import Pairs, Sequences
from object2vec.errors import UserError
from object2vec.evaluation.evaluation import Evaluation, RankingOptions, evaluate
from small import pairs_of


def scorer_of(score: Callable[[list[int], list[int]], list[float]]) -> Callable[..., Callable[..., np.ndarray]]:
    """Return a maker of scorers that asks `score` for the tokens of both objects."""

    def make(objects: tuple[Sequences, Sequences]) -> Callable[..., np.ndarray]:
        lists = [[side.slice(i, i + 1).values.tolist() for i in range(len(side))] for side in objects]
        return lambda left, right: np.array(
            [score(lists[0][a], lists[1][b]) for a, b in zip(left, right, strict=True)], np.float32
        )

    return make


STARS = pairs_of([([1], [10], 4), ([1], [11], 2), ([2], [10], 5), ([2], [12], 3)])
TRAIN = pairs_of([([1], [12], 3), ([2], [11], 1), ([3], [10], 5), ([3], [10], 5)])
first_token = scorer_of(lambda left, right: [float(left[0] + right[0] % 10)])


def test_regression_has_baselines_when_there_are_training_pairs() -> None:
    found = evaluate(first_token, STARS, TRAIN, classes=None)
    assert list(found.metrics) == ["model", "mean", "biases of both sides"]
    assert found.metrics["model"]["rmse"] == pytest.approx(math.sqrt((9 + 0 + 9 + 1) / 4))
    assert found.metrics["mean"]["rmse"] == pytest.approx(math.sqrt((0.5**2 + 1.5**2 + 1.5**2 + 0.5**2) / 4))
    assert found.confusion is None
    assert found.rankings == {}, "ratings have no relevant pairs unless a threshold says which"


def test_without_training_pairs_there_is_the_model_alone() -> None:
    found = evaluate(first_token, STARS, classes=None)
    assert list(found.metrics) == ["model"]
    assert found.by_frequency == {}


def test_errors_are_grouped_by_the_training_pairs_of_each_object() -> None:
    found = evaluate(first_token, STARS, TRAIN, classes=None)
    groups = [(g.name, g.pairs) for g in found.by_frequency["in1"]]
    assert groups == [("1 to 3", 4)]
    unseen = pairs_of([([1], [19], 4), ([1], [12], 3)])
    groups = [
        (g.name, g.pairs, g.error) for g in evaluate(first_token, unseen, TRAIN, classes=None).by_frequency["in1"]
    ]
    assert groups == [("0", 1, 6.0), ("1 to 3", 1, 0.0)]


def test_a_threshold_ranks_ratings_without_those_of_training() -> None:
    """User 1 has film 12 in training, user 2 film 11; the relevant ones are films 10, the last of two by the model."""
    found = evaluate(first_token, STARS, TRAIN, classes=None, ranking=RankingOptions(relevant=4))
    assert list(found.rankings) == ["model", "popularity"]
    assert found.rankings["model"].queries == 2
    assert found.rankings["model"].mean_rank == 2
    assert found.rankings["popularity"].mean_rank == 1
    assert found.candidates == 3


def test_unknown_objects_are_neither_candidates_nor_to_be_found(caplog: pytest.LogCaptureFixture) -> None:
    """Of the relevant films, 10 and others, the model knows all but 10; user 2 then has nothing to find."""
    options = RankingOptions(relevant=4, known=lambda objects: objects.values != 10)
    known = pairs_of([([1], [10], 5.0), ([1], [13], 5.0), ([2], [10], 4.0)])
    found = evaluate(first_token, known, TRAIN, classes=None, ranking=options)
    assert found.rankings["model"].queries == 1
    assert found.candidates == len({11, 12, 13})
    assert "2 of 3 pairs to find have an unknown in1, and are left out of ranking" in caplog.text
    assert evaluate(first_token, pairs_of([([1], [10], 5.0)]), TRAIN, classes=None, ranking=options).rankings == {}


def classified(rows: list[tuple[int, int, int]]) -> Pairs:
    return pairs_of([([a], [b], float(label)) for a, b, label in rows])


TWO_CLASSES = classified([(1, 10, 1), (1, 11, 0), (2, 12, 1), (2, 10, 0)])
likes = scorer_of(lambda left, right: [0.2, 0.8] if (left[0], right[0]) in {(1, 10), (2, 12), (2, 10)} else [0.9, 0.1])


def test_two_classes_have_metrics_of_classification_and_of_ranking() -> None:
    found = evaluate(likes, TWO_CLASSES, classified([(1, 12, 1), (1, 9, 0), (2, 11, 0)]), classes=2)
    assert found.metrics["model"]["accuracy"] == 0.75
    assert found.metrics["class frequencies"]["accuracy"] == 0.5
    assert found.confusion is not None
    assert found.confusion.tolist() == [[1, 1], [0, 2]]
    assert found.rankings["model"].mrr >= 0.75
    assert found.candidates == 4


def test_negatives_of_training_remain_candidates() -> None:
    train = classified([(1, 12, 0), (1, 11, 1)])
    found = evaluate(likes, classified([(1, 10, 1)]), train, classes=2)
    assert found.rankings["popularity"].mean_rank >= 1
    assert found.rankings["model"].auc == 1
    asked: set[int] = set()

    def make(objects: tuple[Sequences, Sequences]) -> Callable[..., np.ndarray]:
        def score(left: np.ndarray, right: np.ndarray) -> np.ndarray:
            asked.update(objects[1].values[right].tolist())
            return np.zeros((len(left), 2), np.float32)

        return score

    evaluate(make, classified([(1, 10, 1)]), train, classes=2)
    assert {10, 12} <= asked


def test_several_classes_are_not_ranked() -> None:
    three = scorer_of(lambda left, right: [0.2, 0.3, 0.5])
    found = evaluate(three, classified([(1, 1, 2), (2, 1, 0)]), classes=3, class_names=["a", "b", "c"])
    assert found.rankings == {}
    assert found.to_dict()["confusion"] == {"classes": ["a", "b", "c"], "counts": [[0, 0, 1], [0, 0, 0], [0, 0, 1]]}


@pytest.mark.parametrize("label", [2, 0.5, -1])
def test_a_label_that_is_no_class_is_an_error(label: float) -> None:
    with pytest.raises(UserError, match=f"a label is {label:g}, wanted a class of the model, from 0 to 1"):
        evaluate(likes, pairs_of([([1], [10], label)]), classes=2)


def test_no_pairs_are_an_error() -> None:
    with pytest.raises(UserError, match="no pairs to evaluate"):
        evaluate(likes, Pairs(Sequences.from_lists([]), Sequences.from_lists([]), np.empty(0, np.float32)), classes=2)


def test_to_dict_is_json_without_nan() -> None:
    found: Evaluation = evaluate(likes, classified([(1, 10, 1)]), classes=2)
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["metrics"]["model"]["auc"] is None
    assert document["ranking"]["queries"] == 1


def test_more_than_two_classes_are_not_ranked() -> None:
    """Their scores have no order of objects; asking for it is an error."""
    uniform = scorer_of(lambda *_: [1 / 3] * 3)
    pairs = pairs_of([([1], [10], 0), ([1], [11], 2), ([2], [10], 1)])
    assert evaluate(uniform, pairs, classes=3).rankings == {}
    with pytest.raises(UserError, match="relevant is 2 for 3 classes, wanted a regression or two classes"):
        evaluate(uniform, pairs, classes=3, ranking=RankingOptions(relevant=2))
