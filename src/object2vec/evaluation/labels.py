"""Evaluate the labels that are predicted for objects which can have several.

Shapes: P pairs, N objects, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from object2vec.array_types import Bools, Float32, Float64, Int64
from object2vec.data.sequences import Sequences
from object2vec.evaluation.metrics import CALIBRATION_BINS, MAX_SCORES, MIN_PROBABILITY
from object2vec.retrieval.label_probabilities import (
    LabelProbabilities,
    best_threshold,
    group_labels,
    has_labels,
)

BASELINE: Final = "label frequencies"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelEvaluation:
    """The metrics of a model and of a baseline on `objects`, with the model's `threshold` of probabilities."""

    objects: int
    threshold: float
    metrics: Mapping[str, Mapping[str, float]]


def evaluate_labels(
    name: str,
    scores: Float64,
    test: tuple[Int64, Int64],
    train: tuple[Int64, Int64],
    calibration: LabelProbabilities,
) -> LabelEvaluation:
    """Evaluate the scores (P, C) of test pairs by a system called `name`.

    `test` and `train` are the number of the object and the label of each pair, (P,) each; `train` may be empty.
    """
    classes = scores.shape[1]
    first, has_label = group_labels(*test, classes, exclusive=False)
    metrics = {name: label_metrics(calibration(scores[first]), has_label, calibration.threshold)}
    if len(train[0]):
        shares = group_labels(*train, classes, exclusive=False)[1].mean(axis=0, keepdims=True)
        threshold = best_threshold(shares, shares)
        metrics[BASELINE] = label_metrics(np.repeat(shares, len(first), axis=0), has_label, threshold)
    return LabelEvaluation(objects=len(first), threshold=calibration.threshold, metrics=metrics)


def label_metrics(probabilities: Float64, has_label: Bools, threshold: float) -> dict[str, float]:
    """Return the metrics over all labels of all objects, (N, C)."""
    sums = _LabelSums(threshold)
    sums.add(probabilities, has_label)
    return sums.metrics()


class _LabelSums:
    """Sums over blocks of objects, from which their metrics follow."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.counts = np.zeros(4, np.int64)  # labels that are found, predicted and wanted, and all
        self.loss = 0.0
        self.bins = np.zeros((3, CALIBRATION_BINS))  # predicted, observed, and counts

    def add(self, probabilities: Float64, has_label: Bools) -> None:
        """Add objects (N, C)."""
        predicted = probabilities >= self.threshold
        for place, which in enumerate((predicted & has_label, predicted, has_label)):
            self.counts[place] += np.count_nonzero(which)
        self.counts[3] += has_label.size
        clipped = np.clip(np.where(has_label, probabilities, 1 - probabilities), MIN_PROBABILITY, 1)
        self.loss -= float(np.log(clipped).sum())
        index = np.minimum((probabilities.ravel() * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
        for place, values in enumerate((probabilities, has_label, np.ones_like(probabilities))):
            self.bins[place] += np.bincount(index, values.ravel(), CALIBRATION_BINS)

    def metrics(self) -> dict[str, float]:
        """Return the metrics over all labels."""
        found, guessed, wanted, labels = self.counts.tolist()
        return {
            "micro_f1": 2 * found / max(guessed + wanted, 1),
            "precision": found / guessed if guessed else float("nan"),
            "recall": found / wanted if wanted else float("nan"),
            "log_loss": self.loss / labels if labels else float("nan"),
            "calibration_error": float(np.abs(self.bins[0] - self.bins[1]).sum() / labels) if labels else float("nan"),
        }


def evaluate_sets(
    scores: Callable[[slice], Float32],
    sets: Sequences,
    train: Sequences | None,
    classes: int,
    calibration: LabelProbabilities,
) -> tuple[dict[str, float], LabelEvaluation]:
    """Evaluate probabilities of pairs that can have several classes: the metrics of pairs, and those of labels.

    `scores` returns those of a slice of the pairs, whose classes are `sets`; `train` are those of training pairs. Only
    blocks of pairs are scored at a time.
    """
    sums, baseline, threshold = _LabelSums(calibration.threshold), None, 0.5
    correct, loss = 0, 0.0
    if train is not None and len(train):
        shares: Any = np.bincount(train.values, minlength=classes)[None] / len(train)
        threshold = best_threshold(shares, shares)
        baseline = _LabelSums(threshold)
    size = max(1, MAX_SCORES // classes)
    for start in range(0, len(sets), size):
        part = slice(start, min(start + size, len(sets)))
        has_label, given = has_labels(sets.slice(part.start, part.stop), classes), scores(part).astype(np.float64)
        correct += int(np.count_nonzero(has_label[np.arange(len(given)), given.argmax(axis=1)]))
        loss -= float(np.log(np.clip(np.where(has_label, given, 1 - given), MIN_PROBABILITY, 1)).sum())
        sums.add(calibration(given), has_label)
        if baseline:
            baseline.add(np.repeat(shares, len(given), axis=0), has_label)
    metrics = {"model": sums.metrics()} | ({BASELINE: baseline.metrics()} if baseline else {})
    found = LabelEvaluation(objects=len(sets), threshold=calibration.threshold, metrics=metrics)
    return {"accuracy": correct / len(sets), "log_loss": loss / len(sets)}, found
