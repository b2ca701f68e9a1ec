"""Metrics of classification and regression equal those of scikit-learn and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from object2vec.evaluation.metrics import (
    binary_auc,
    calibration,
    classification_metrics,
    confusion_matrix,
    regression_metrics,
)


def random_predictions(seed: int, classes: int, *, pairs: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities with ties, and labels that agree with them in part; every class has a label."""
    generator = np.random.default_rng(seed)
    probabilities = generator.integers(1, 6, (pairs, classes)).astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels = np.where(
        generator.random(pairs) < 0.5, probabilities.argmax(axis=1), generator.integers(classes, size=pairs)
    )
    labels[:classes] = range(classes)
    return probabilities, labels


@pytest.mark.parametrize("classes", [2, 3, 7])
@given(seed=st.integers(0, 2**32))
def test_classification_metrics_equal_scikit_learn(classes: int, seed: int) -> None:
    from sklearn import metrics as oracle  # takes long to import

    probabilities, labels = random_predictions(seed, classes)
    predicted = probabilities.argmax(axis=1)
    found = classification_metrics(probabilities, labels)
    scores = probabilities[:, 1] if classes == 2 else probabilities
    assert found == pytest.approx(
        {
            "accuracy": oracle.accuracy_score(labels, predicted),
            "macro_f1": oracle.f1_score(labels, predicted, average="macro"),
            "micro_f1": oracle.f1_score(labels, predicted, average="micro"),
            "auc": oracle.roc_auc_score(labels, scores, multi_class="ovr"),
            "log_loss": oracle.log_loss(labels, probabilities),
            "calibration_error": found["calibration_error"],
        }
    )
    np.testing.assert_array_equal(
        confusion_matrix(predicted, labels, classes), oracle.confusion_matrix(labels, predicted)
    )


@given(seed=st.integers(0, 2**32))
def test_regression_metrics_equal_scikit_learn_and_scipy(seed: int) -> None:
    from scipy import stats
    from sklearn import metrics as oracle

    generator = np.random.default_rng(seed)
    labels = generator.integers(1, 11, 100) / 2
    predictions = (labels + generator.normal(size=100)).round(1)
    assert regression_metrics(predictions, labels) == pytest.approx(
        {
            "rmse": oracle.root_mean_squared_error(labels, predictions),
            "mae": oracle.mean_absolute_error(labels, predictions),
            "pearson": stats.pearsonr(predictions, labels).statistic,
            "spearman": stats.spearmanr(predictions, labels).statistic,
        }
    )


def test_calibration_of_a_worked_example() -> None:
    """Three pairs near .1, of which one is positive, and one at .9, which is positive."""
    positive = np.array([0.11, 0.12, 0.13, 0.9])
    found = calibration(np.stack([1 - positive, positive], 1), np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(found.predicted, [0.12, 0.9])
    np.testing.assert_allclose(found.observed, [1 / 3, 1])
    assert found.counts.tolist() == [3, 1]
    assert found.error == pytest.approx((3 * (1 / 3 - 0.12) + 0.1) / 4)


def test_calibration_of_several_classes_is_of_the_predicted_class() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.15, 0.75]])
    found = calibration(probabilities, np.array([0, 0]))
    np.testing.assert_allclose(found.predicted, [0.725])
    np.testing.assert_allclose(found.observed, [0.5])


def test_a_probability_of_zero_for_the_true_class_gives_a_finite_log_loss() -> None:
    assert math.isfinite(classification_metrics(np.array([[1.0, 0.0]]), np.array([1]))["log_loss"])


def test_undefined_metrics_are_nan() -> None:
    assert math.isnan(binary_auc(np.array([0.1, 0.2]), np.array([True, True])))
    constant = regression_metrics(np.array([2.0, 2.0]), np.array([1.0, 3.0]))
    assert constant["rmse"] == 1
    assert math.isnan(constant["pearson"])
    assert math.isnan(regression_metrics(np.array([1.0]), np.array([1.0]))["pearson"])
