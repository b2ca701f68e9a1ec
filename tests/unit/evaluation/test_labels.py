"""Metrics of several labels per object equal those of scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from object2vec.evaluation.labels import BASELINE, evaluate_labels, label_metrics
from object2vec.retrieval.label_probabilities import LabelProbabilities


def test_metrics_equal_scikit_learn() -> None:
    from sklearn import metrics as oracle  # takes long to import

    generator = np.random.default_rng(0)
    probabilities = generator.random((300, 6))
    has_label = generator.random((300, 6)) < probabilities
    found = label_metrics(probabilities, has_label, 0.6)
    predicted = probabilities >= 0.6
    assert found["micro_f1"] == pytest.approx(oracle.f1_score(has_label, predicted, average="micro"))
    assert found["precision"] == pytest.approx(oracle.precision_score(has_label, predicted, average="micro"))
    assert found["recall"] == pytest.approx(oracle.recall_score(has_label, predicted, average="micro"))
    assert found["log_loss"] == pytest.approx(oracle.log_loss(has_label.ravel(), probabilities.ravel()))
    assert found["calibration_error"] < 0.05
    assert label_metrics(1 - probabilities, has_label, 0.6)["calibration_error"] > 0.4


def test_no_prediction_has_no_precision() -> None:
    found = label_metrics(np.array([[0.2, 0.3]]), np.array([[True, False]]), 0.5)
    assert math.isnan(found["precision"])
    assert (found["micro_f1"], found["recall"]) == (0, 0)


def test_baseline_predicts_the_labels_that_are_frequent_in_training() -> None:
    """Three of four objects of training have label 0, which is all that the baseline predicts."""
    scores = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
    test = np.array([0, 0, 1]), np.array([0, 1, 2])
    train = np.array([0, 1, 2, 3]), np.array([0, 0, 0, 2])
    found = evaluate_labels("model", scores, test, train, LabelProbabilities(exclusive=False, shift=1.0))
    assert found.objects == 2
    assert found.metrics["model"] == label_metrics(
        LabelProbabilities(exclusive=False, shift=1.0)(scores[[0, 2]]), np.array([[1, 1, 0], [0, 0, 1]], bool), 0.5
    )
    assert found.metrics["model"]["micro_f1"] == 1
    assert found.metrics[BASELINE]["precision"] == 0.5
    assert found.metrics[BASELINE]["recall"] == 1 / 3
    empty = np.array([], np.int64)
    assert list(
        evaluate_labels("model", scores, test, (empty, empty), LabelProbabilities(exclusive=False)).metrics
    ) == ["model"]
