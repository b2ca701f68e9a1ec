"""Metrics of classification and regression, in numpy.

A metric that is undefined for the data, such as the AUC of a single class, is NaN.

Shapes: P pairs, C classes, B bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from object2vec.array_types import Bools, Float64, Int64

#: Probabilities are clipped to this distance from 0 and 1, so that the log loss is finite.
MIN_PROBABILITY: Final = 1e-15
CALIBRATION_BINS: Final = 10
#: Scores that are held at a time where there are many classes.
MAX_SCORES: Final = 2**23


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Predicted and true frequencies of pairs, grouped into bins by the predicted probability, (B,) each."""

    predicted: Float64
    observed: Float64
    counts: Int64

    @property
    def error(self) -> float:
        """Return the expected calibration error: the mean distance of both frequencies, weighted by pairs."""
        if not len(self.counts):
            return float("nan")
        return float(np.average(np.abs(self.predicted - self.observed), weights=self.counts))


def classification_metrics(probabilities: Float64, labels: Int64) -> dict[str, float]:
    """Return the metrics of P predicted distributions, (P, C), for the true classes `labels` (P,)."""
    counts = confusion_matrix(probabilities.argmax(axis=1), labels, probabilities.shape[1])
    true = probabilities[np.arange(len(labels)), labels]
    return {
        "accuracy": _ratio(np.trace(counts), len(labels)),
        "macro_f1": macro_f1(counts),
        "micro_f1": _ratio(np.trace(counts), len(labels)),  # equal to the accuracy if each pair has one class
        "auc": auc(probabilities, labels),
        "log_loss": _mean(-np.log(np.clip(true, MIN_PROBABILITY, 1))),
        "calibration_error": calibration(probabilities, labels).error,
    }


def many_class_metrics(best: Int64, top: Float64, true: Float64, labels: Int64, classes: int) -> dict[str, float]:
    """Return the metrics of P predicted distributions from the most probable class of each, `best` (P,).

    `top` (P,) is its probability, and `true` (P,) that of the true class. The AUC is NaN: it needs all probabilities.
    """
    correct = best == labels
    hits, total = np.bincount(labels[correct], minlength=classes), np.bincount(labels, minlength=classes)
    total = total + np.bincount(best, minlength=classes)
    used = total > 0
    accuracy = _ratio(int(np.count_nonzero(correct)), len(labels))
    return {
        "accuracy": accuracy,
        "macro_f1": _mean(2 * hits[used] / total[used]),
        "micro_f1": accuracy,
        "auc": float("nan"),
        "log_loss": _mean(-np.log(np.clip(true, MIN_PROBABILITY, 1))),
        "calibration_error": binned(top, correct).error,
    }


def regression_metrics(predictions: Float64, labels: Float64) -> dict[str, float]:
    """Return the metrics of predicted numbers (P,) for true ones (P,)."""
    errors = predictions - labels
    return {
        "rmse": float(np.sqrt(_mean(errors**2))),
        "mae": _mean(np.abs(errors)),
        "pearson": pearson(predictions, labels),
        "spearman": pearson(average_ranks(predictions), average_ranks(labels)),
    }


def confusion_matrix(predicted: Int64, labels: Int64, classes: int) -> Int64:
    """Return how many pairs of each true class (row) have each predicted class (column), (C, C)."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def macro_f1(counts: Int64) -> float:
    """Return the mean F1 of the classes in a confusion matrix, without classes that no pair has or gets."""
    total = counts.sum(axis=0) + counts.sum(axis=1)
    found = total > 0
    return _mean(2 * np.diag(counts)[found] / total[found])


def auc(probabilities: Float64, labels: Int64) -> float:
    """Return the area under the ROC curve: of class 1 if there are two, else the mean over classes against the rest."""
    if probabilities.shape[1] == 2:
        return binary_auc(probabilities[:, 1], labels == 1)
    present = np.unique(labels).tolist()
    return _mean(np.array([binary_auc(probabilities[:, which], labels == which) for which in present]))


def binary_auc(scores: Float64, positive: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    """Return the probability that a positive has a higher score than a negative; ties count half."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return float("nan")
    above = average_ranks(scores)[positive].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def calibration(probabilities: Float64, labels: Int64) -> Calibration:
    """Compare predicted probabilities with frequencies: of class 1 if there are two, else of the predicted class."""
    if probabilities.shape[1] == 2:
        return binned(probabilities[:, 1], labels == 1)
    return binned(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)


def binned(predicted: Float64, observed: Bools, bins: int = CALIBRATION_BINS) -> Calibration:
    """Compare predicted probabilities (P,) of events with which of them happened (P,)."""
    index = np.minimum((predicted * bins).astype(np.int64), bins - 1)
    counts = np.bincount(index, minlength=bins)
    used = counts > 0
    sums = (np.bincount(index, weights=values, minlength=bins)[used] for values in (predicted, observed))
    means = [values / counts[used] for values in sums]
    return Calibration(predicted=means[0], observed=means[1], counts=counts[used])


def pearson(x: Float64, y: Float64) -> float:
    """Return the correlation of two columns (P,)."""
    if len(x) < 2 or not np.ptp(x) or not np.ptp(y):
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y) / float(np.sqrt((x @ x) * (y @ y)))


def average_ranks(values: Float64) -> Float64:
    """Return the rank of each value from 1; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _mean(values: Float64) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
