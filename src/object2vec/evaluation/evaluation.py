"""Evaluate a model on held-out pairs, and simple baselines on the same pairs.

Shapes: P pairs, C scores a pair.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import numpy as np

from object2vec.array_types import Bools, Float32, Float64, Int64
from object2vec.data.records import SIDES
from object2vec.data.sequences import Pairs, Sequences
from object2vec.errors import UserError
from object2vec.evaluation import baselines
from object2vec.evaluation.labels import LabelEvaluation, evaluate_labels, evaluate_sets
from object2vec.evaluation.metrics import (
    MAX_SCORES,
    MIN_PROBABILITY,
    Calibration,
    binned,
    calibration,
    classification_metrics,
    confusion_matrix,
    many_class_metrics,
    regression_metrics,
)
from object2vec.evaluation.ranking import Ranking, RankingTask, rank
from object2vec.evaluation.report import to_html, to_text
from object2vec.retrieval.label_probabilities import LabelProbabilities

logger = logging.getLogger(__name__)

#: Scores (P, C) of pairs of objects, by their indices (P,).
PairScores = Callable[[Int64, Int64], Float32]
MODEL: Final = "model"
#: With more classes, many pairs are evaluated in blocks.
MANY_CLASSES: Final = 30
#: The limits between groups of objects by their number of training pairs: 0, 1 to 3, 4 to 15, and so on.
FREQUENCIES: Final = (0, 1, 4, 16, 64, 256, 1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingOptions:
    """How to rank `in1` for each `in0`.

    A pair is relevant from the label `relevant` on; None is 1, and no ranking for ratings and several classes.
    `candidates` is how many are drawn for each query; None ranks all. `known` tells which objects of `in1` the model
    knows; others are neither ranked nor to be found.
    """

    relevant: float | None = None
    candidates: int | None = None
    seed: int = 0
    known: Callable[[Sequences], Bools] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrequencyGroup:
    """Pairs whose object of a side is in `low` to `high` training pairs, and their error."""

    low: int
    high: float
    pairs: int
    error: float

    @property
    def name(self) -> str:
        """Return the range of frequencies."""
        if math.isinf(self.high):
            return f"{self.low:,} or more"
        return str(self.low) if self.low == self.high else f"{self.low:,} to {self.high:,.0f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The metrics of a model and of baselines on the same pairs.

    `metrics` and `rankings` map systems to their metrics; `MODEL` is the first. `confusion` (C, C) and `calibration`
    are those of the model, None for regression. `by_frequency` has the groups of each side if there are training pairs.
    `labels` is for objects with several labels.
    """

    pairs: int
    regression: bool
    metrics: Mapping[str, Mapping[str, float]]
    confusion: Int64 | None = None
    calibration: Calibration | None = None
    by_frequency: Mapping[str, Sequence[FrequencyGroup]] = field(default_factory=dict)
    rankings: Mapping[str, Ranking] = field(default_factory=dict)
    candidates: int = 0
    class_names: Sequence[str] = ()
    labels: LabelEvaluation | None = None

    @property
    def error_name(self) -> str:
        """Return the name of the error in `by_frequency`."""
        return "rmse" if self.regression else "log_loss"

    def __str__(self) -> str:
        return to_text(self)

    def to_html(self, title: str = "Evaluation") -> str:
        """Return a page with all metrics and plots, which needs no other file."""
        return to_html(self, title=title)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; undefined metrics are None."""
        document: dict[str, Any] = {
            "pairs": self.pairs,
            "task": "regression" if self.regression else "classification",
            "metrics": {system: _defined(values) for system, values in self.metrics.items()},
        }
        if self.confusion is not None:
            document["confusion"] = {"classes": list(self.class_names), "counts": self.confusion.tolist()}
        if found := self.calibration:
            columns = {"predicted": found.predicted, "observed": found.observed, "pairs": found.counts}
            document["calibration"] = {name: values.tolist() for name, values in columns.items()}
        if self.by_frequency:
            document["by_frequency"] = {
                side: [{"training_pairs": g.name, "pairs": g.pairs, self.error_name: g.error} for g in groups]
                for side, groups in self.by_frequency.items()
            }
        if self.labels:
            document["labels"] = {
                "objects": self.labels.objects,
                "threshold": self.labels.threshold,
                "metrics": {system: _defined(values) for system, values in self.labels.metrics.items()},
            }
        if self.rankings:
            document["ranking"] = {
                "queries": next(iter(self.rankings.values())).queries,
                "candidates": self.candidates,
                "metrics": {system: _defined(found.metrics()) for system, found in self.rankings.items()},
            }
        return document


def _defined(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def evaluate(
    make_scorer: Callable[[tuple[Sequences, Sequences]], PairScores],
    test: Pairs,
    train: Pairs | None = None,
    *,
    classes: int | None,
    ranking: RankingOptions | None = None,
    class_names: Sequence[str] = (),
    label_probabilities: LabelProbabilities | None = None,
) -> Evaluation:
    """Evaluate scores of the pairs `test`; with the pairs `train`, baselines too.

    `make_scorer` returns the scorer of objects of both sides. `classes` is None for regression. `label_probabilities`
    are those of a model that gives labels to objects of `in0`.

    Raises:
        UserError: there are no pairs, or a label is not a class of the model.
    """
    if not len(test):
        raise UserError("there are no pairs to evaluate, wanted at least one")
    data = _Indexed.from_pairs(test, train)
    scores = make_scorer(data.objects)
    if classes is not None and test.classes is not None:
        return _evaluate_sets(data, scores, test, train, classes, class_names, label_probabilities)
    if classes is not None and classes > MANY_CLASSES and len(test) * classes > MAX_SCORES:
        return _evaluate_many(data, scores, classes, class_names)
    predicted = scores(*data.test).astype(np.float64)
    systems = {MODEL: predicted} | _baseline_scores(data, classes)
    confusion = found_calibration = label_evaluation = None
    if classes is None:
        metrics = {name: regression_metrics(values[:, 0], data.labels) for name, values in systems.items()}
        errors = (predicted[:, 0] - data.labels) ** 2
    else:
        labels = _to_classes(data.labels, classes)
        metrics = {name: classification_metrics(values, labels) for name, values in systems.items()}
        confusion = confusion_matrix(predicted.argmax(axis=1), labels, classes)
        found_calibration = calibration(predicted, labels)
        errors = -np.log(np.clip(predicted[np.arange(len(labels)), labels], MIN_PROBABILITY, 1))
        if label_probabilities and not label_probabilities.exclusive:
            train_labels = _to_classes(data.train_labels, classes)
            of_pairs = (data.test[0], labels), (data.train[0], train_labels)
            label_evaluation = evaluate_labels(MODEL, predicted, *of_pairs, label_probabilities)
    rankings, candidates = _rankings(data, scores, classes, ranking or RankingOptions())
    return Evaluation(
        pairs=len(test),
        regression=classes is None,
        metrics=metrics,
        confusion=confusion,
        calibration=found_calibration,
        by_frequency=_by_frequency(data, errors, root=classes is None) if train else {},
        rankings=rankings,
        candidates=candidates,
        class_names=class_names or [str(number) for number in range(classes or 0)],
        labels=label_evaluation,
    )


def _evaluate_sets(
    data: _Indexed,
    scores: PairScores,
    test: Pairs,
    train: Pairs | None,
    classes: int,
    class_names: Sequence[str],
    calibration: LabelProbabilities | None,
) -> Evaluation:
    """Evaluate a model whose pairs can have several classes."""
    metrics, labels = evaluate_sets(
        lambda part: scores(data.test[0][part], data.test[1][part]),
        cast(Sequences, test.classes),
        train.classes if train else None,
        classes,
        calibration or LabelProbabilities(exclusive=False),
    )
    names = class_names or [str(number) for number in range(classes)]
    return Evaluation(pairs=len(test), regression=False, metrics={MODEL: metrics}, class_names=names, labels=labels)


def _evaluate_many(data: _Indexed, scores: PairScores, classes: int, class_names: Sequence[str]) -> Evaluation:
    """Evaluate a model of many classes in blocks of pairs, without what needs all scores."""
    labels, size = _to_classes(data.labels, classes), MAX_SCORES // classes
    best, top, true = np.empty(len(labels), np.int64), np.empty(len(labels)), np.empty(len(labels))
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        given, rows = scores(data.test[0][part], data.test[1][part]), np.arange(len(labels[part]))
        best[part] = given.argmax(axis=1)
        top[part], true[part] = given[rows, best[part]], given[rows, labels[part]]
    metrics = {MODEL: many_class_metrics(best, top, true, labels, classes)}
    if len(data.train_labels):
        shares = baselines.class_frequencies(_to_classes(data.train_labels, classes), classes)
        likely = np.full(len(labels), shares.argmax())
        metrics["class frequencies"] = many_class_metrics(likely, shares[likely], shares[labels], labels, classes)
    names = class_names or [str(number) for number in range(classes)]
    return Evaluation(
        pairs=len(labels),
        regression=False,
        metrics=metrics,
        calibration=binned(top, best == labels),
        class_names=names,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Indexed:
    """Unique objects of both sides, and pairs as indices of them, (P,) each."""

    objects: tuple[Sequences, Sequences]
    test: tuple[Int64, Int64]
    train: tuple[Int64, Int64]
    labels: Float64
    train_labels: Float64

    @classmethod
    def from_pairs(cls, test: Pairs, train: Pairs | None) -> _Indexed:
        objects, tests, trains = [], [], []
        for side in (0, 1):
            parts = [pairs.sides[side] for pairs in (test, train) if pairs]
            joined = Sequences.concatenate(parts)
            first, inverse = joined.unique()
            objects.append(joined.take(first))
            tests.append(inverse[: len(test)].astype(np.int64))
            trains.append(inverse[len(test) :].astype(np.int64))
        return cls(
            objects=(objects[0], objects[1]),
            test=(tests[0], tests[1]),
            train=(trains[0], trains[1]),
            labels=test.labels.astype(np.float64),
            train_labels=train.labels.astype(np.float64) if train else np.empty(0),
        )


def _to_classes(labels: Float64, classes: int) -> Int64:
    wrong = (labels != np.floor(labels)) | (labels < 0) | (labels >= classes)
    if wrong.any():
        raise UserError(f"a label is {labels[wrong.argmax()]:g}, wanted a class of the model, from 0 to {classes - 1}")
    return labels.astype(np.int64)


def _baseline_scores(data: _Indexed, classes: int | None) -> dict[str, Float64]:
    """Return the scores (P, C) of each baseline that the training pairs allow."""
    if not len(data.train_labels):
        return {}
    if classes is not None:
        shares = baselines.class_frequencies(_to_classes(data.train_labels, classes), classes)
        return {"class frequencies": np.tile(shares, (len(data.labels), 1))}
    counts = len(data.objects[0]), len(data.objects[1])
    biases = baselines.fit_biases(data.train, data.train_labels, counts)
    return {
        "mean": np.full((len(data.labels), 1), data.train_labels.mean()),
        "biases of both sides": biases(*data.test)[:, None],
    }


def _by_frequency(data: _Indexed, errors: Float64, *, root: bool) -> dict[str, list[FrequencyGroup]]:
    """Group the test pairs of each side by how many training pairs their object is in."""
    return {
        name: _frequency_groups(np.bincount(train, minlength=len(objects))[test], errors, root=root)
        for name, objects, train, test in zip(SIDES, data.objects, data.train, data.test, strict=True)
    }


def _frequency_groups(frequency: Int64, errors: Float64, *, root: bool) -> list[FrequencyGroup]:
    groups = []
    for low, high in zip(FREQUENCIES, [*(limit - 1 for limit in FREQUENCIES[1:]), math.inf], strict=True):
        if (inside := (frequency >= low) & (frequency <= high)).any():
            error = float(errors[inside].mean())
            error = math.sqrt(error) if root else error
            groups.append(FrequencyGroup(low=low, high=high, pairs=int(inside.sum()), error=error))
    return groups


def _rankings(
    data: _Indexed, scores: PairScores, classes: int | None, options: RankingOptions
) -> tuple[dict[str, Ranking], int]:
    """Rank the objects of in1 for each object of in0 by the model, and by popularity with training pairs.

    Return the metrics, and the number of candidates.

    Positives of training are not candidates; for regression, no pair of training is one.

    Raises:
        UserError: `relevant` is given for a model of more than two classes, which has no order of objects.
    """
    if classes is not None and classes > 2:
        if options.relevant is not None:
            raise UserError(
                f"relevant is {options.relevant:g} for {classes} classes, wanted a regression or two classes"
            )
        return {}, 0
    threshold = 1.0 if options.relevant is None else options.relevant
    binary = classes == 2 or (classes is None and bool(np.isin(data.labels, (0, 1)).all()))
    relevant = data.labels >= threshold
    if options.relevant is None and not binary:
        return {}, 0
    known = options.known(data.objects[1]) if options.known else np.ones(len(data.objects[1]), np.bool_)
    if unknown := int((relevant & ~known[data.test[1]]).sum()):
        logger.warning(
            f"{unknown:,} of {relevant.sum():,} pairs to find have an unknown in1, and are left out of ranking"
        )
    relevant &= known[data.test[1]]
    if not relevant.any():
        return {}, 0
    seen = ((data.train_labels >= threshold) | (classes is None)) & known[data.train[1]]
    candidates, numbers = np.flatnonzero(known), np.cumsum(known) - 1
    task = RankingTask(
        relevant=(data.test[0][relevant], numbers[data.test[1][relevant]]),
        seen=(data.train[0][seen], numbers[data.train[1][seen]]),
        candidates=len(candidates),
        sampled=options.candidates,
        seed=options.seed,
    )
    found = {MODEL: rank(lambda left, right: scores(left, candidates[right])[:, -1], task)}
    if len(data.train_labels):
        positive = data.train[1][data.train_labels >= threshold]
        popular = baselines.popularity(positive, len(known))[candidates]
        found["popularity"] = rank(lambda _, right: popular[right], task)
    return found, options.candidates or len(candidates)
