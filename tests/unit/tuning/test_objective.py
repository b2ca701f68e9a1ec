"""Objectives: their names and directions, and their values."""

from __future__ import annotations

import pytest

from object2vec.errors import UserError
from object2vec.evaluation.evaluation import MODEL, RankingOptions, evaluate
from object2vec.hyperparameters import Hyperparameters
from object2vec.hyperparameters.kinds import Integer
from object2vec.tuning.objective import LOWER_IS_BETTER, _names, default_objective, parse_objective
from object2vec.tuning.ranges import Range
from small import configured, pairs_of

SOFTMAX = configured()
REGRESSION = configured(output_layer="mean_squared_error")
PAIRS = pairs_of([([n], [n % 3], n % 2) for n in range(1, 9)])


@pytest.mark.parametrize("hyperparameters", [SOFTMAX, REGRESSION], ids=["softmax", "regression"])
def test_names_are_those_that_evaluate_gives(hyperparameters: Hyperparameters) -> None:
    """Each name of a metric is one of `evaluate`, and each metric of `evaluate` can be an objective."""
    regression = hyperparameters.regression
    columns = 1 if regression else 2
    found = evaluate(
        lambda _: lambda left, right: (left + right).repeat(columns).reshape(-1, columns).astype("f"),
        PAIRS,
        classes=None if regression else 2,
        ranking=RankingOptions(relevant=1),
    )
    known = {*found.metrics[MODEL], *found.rankings[MODEL].metrics()}
    assert {name for name in _names(regression=regression, ranking=True) if ":" not in name} == known
    for name in known:
        assert parse_objective(name, hyperparameters).of_evaluation(found) == pytest.approx(
            found.metrics[MODEL].get(name, found.rankings[MODEL].metrics().get(name))
        )


def test_directions() -> None:
    names = {*_names(regression=True, ranking=True), *_names(regression=False, ranking=True)}
    assert set(LOWER_IS_BETTER) <= {name.removeprefix("validation:") for name in names}
    assert not parse_objective("ndcg@10", SOFTMAX).minimize
    assert not parse_objective("validation:accuracy", SOFTMAX).minimize
    assert parse_objective("validation:cross_entropy", SOFTMAX).minimize
    assert parse_objective("rmse", REGRESSION).minimize


def test_defaults() -> None:
    assert default_objective(SOFTMAX).name == "validation:cross_entropy"
    assert default_objective(REGRESSION).name == "validation:mean_squared_error"
    implicit = configured(output_layer="mean_squared_error", negative_sampling_rate=3)
    assert default_objective(implicit).name == "ndcg@10"
    assert default_objective(implicit, of_epochs=True).name == "validation:mean_squared_error"
    assert default_objective(configured(num_classes=3, negative_sampling_rate=3)).name == "validation:cross_entropy"


def test_metric_that_training_stops_by_is_the_default() -> None:
    stopping = configured(early_stopping_metric="mrr")
    objective = default_objective(stopping)
    assert (objective.name, objective.minimize) == ("validation:mrr", False)
    assert parse_objective("validation:mrr", stopping) == objective
    history = [{"validation": {"cross_entropy": 0.5, "mrr": mrr}} for mrr in (0.25, 0.75, 0.5)]
    assert objective.of_best_epoch(history, regression=False, metric="mrr") == 0.75
    with pytest.raises(UserError, match="no such metric"):
        parse_objective("validation:mrr", SOFTMAX)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("test:accuracy", "test pairs never choose a model, wanted validation:accuracy"),
        (
            "validation:mean_squared_error",
            "wanted for output_layer=softmax and num_classes=2 one of validation:cross_entropy",
        ),
        (
            "rmse",
            "wanted for output_layer=softmax and num_classes=2 one of validation:cross_entropy, validation:acc",
        ),
        ("ncdg@10", "no such metric, the nearest is ndcg@10"),
        ("train:accuracy", "no such metric, the nearest is validation:accuracy"),
    ],
)
def test_bad_names(name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=rf"^--objective is {name}") as raised:
        parse_objective(name, SOFTMAX)
    assert sentence in str(raised.value)


def test_several_classes_are_not_ranked() -> None:
    classes = configured(num_classes=3)
    with pytest.raises(
        UserError, match=r"^--objective is ndcg@10, wanted for output_layer=softmax and num_classes=3 one"
    ):
        parse_objective("ndcg@10", classes)
    assert parse_objective("auc", classes).metric == "auc"


def test_metric_of_epochs_is_that_of_the_best_epoch() -> None:
    """The best epoch has the lowest loss, not the highest accuracy: it is the one that training keeps."""
    history = [
        {"validation": {"cross_entropy": loss, "accuracy": accuracy}}
        for loss, accuracy in ((0.9, 0.8), (0.5, 0.6), (0.5, 0.7), (0.6, 0.9))
    ]
    assert parse_objective("validation:accuracy", SOFTMAX).of_best_epoch(history, regression=False) == 0.6
    assert parse_objective("validation:cross_entropy", SOFTMAX).of_best_epoch(history, regression=False) == 0.5


def test_epochs_are_compared_in_the_direction_of_the_objective() -> None:
    record = {"validation": {"cross_entropy": 0.25, "accuracy": 0.75}}
    found = {
        name: parse_objective(name, SOFTMAX).of_epoch(record, regression=False)
        for name in _names(regression=False, ranking=True)
    }
    assert found["validation:accuracy"] == 0.75
    assert (found["ndcg@10"], found["log_loss"]) == (-0.25, 0.25)


def test_undefined_metric() -> None:
    found = evaluate(lambda _: lambda left, _: left[:, None].astype("f"), pairs_of([([1], [2], 4.5)]), classes=None)
    with pytest.raises(UserError, match=r"^ndcg@10 is not defined for the validation pairs, .*; stars .* --relevant$"):
        parse_objective("ndcg@10", REGRESSION).of_evaluation(found)


def test_ranges_that_change_the_validation_pairs() -> None:
    name = "negative_sampling_rate"
    ranges = [Range(name=name, row=name, kind=Integer(1, 9))]
    with pytest.raises(UserError, match=rf"^{name} changes what validation:cross_entropy is measured on"):
        default_objective(SOFTMAX).check_ranges(ranges)
    parse_objective("ndcg@10", SOFTMAX).check_ranges(ranges)
