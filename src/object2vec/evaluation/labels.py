"""Evaluate the labels that are predicted for objects which can have several.

Shapes: P pairs, N objects, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from object2vec.array_types import Bools, Float32, Float64, Int64
from object2vec.data.sequences import Sequences
from object2vec.evaluation.metrics import CALIBRATION_BINS, MAX_SCORES, MIN_PROBABILITY
from object2vec.retrieval.label_probabilities import (
    LabelProbabilities,
    best_threshold,
    group_labels,
)

#: Scores whose logarithms fit a core's cache.
CACHED_SCORES: Final = 2**17
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
        shares = group_labels(*train, classes, exclusive=False)[1].mean(axis=0)
        own = np.flatnonzero(has_label) % classes
        metrics[BASELINE] = _baseline_metrics(shares, own, len(first))
    return LabelEvaluation(objects=len(first), threshold=calibration.threshold, metrics=metrics)


def label_metrics(probabilities: Float64, has_label: Bools, threshold: float) -> dict[str, float]:
    """Return the metrics over all labels of all objects, (N, C)."""
    sums = _LabelSums(threshold)
    sums.add(probabilities.ravel(), np.flatnonzero(has_label))
    return sums.metrics()


def _baseline_metrics(shares: Float64, own: Int64, objects: int) -> dict[str, float]:
    """Return the metrics of equal probabilities (C,) for all objects, which have the labels `own`."""
    sums = _LabelSums(best_threshold(shares, shares))
    sums.add(shares, own, objects)
    return sums.metrics()


class _LabelSums:
    """Sums over blocks of objects, from which their metrics follow."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.counts = np.zeros(4, np.int64)  # labels that are found, predicted and wanted, and all
        self.loss = 0.0
        self.bins = np.zeros((2, CALIBRATION_BINS))  # predicted and observed

    def add(self, probabilities: Float64, own: Int64, objects: int = 1) -> None:
        """Add `objects` times the probabilities (L,) of labels; those at the places `own` are there."""
        predicted = probabilities >= self.threshold
        found, guessed = np.count_nonzero(predicted[own]), objects * np.count_nonzero(predicted)
        self.counts += np.array([found, guessed, len(own), objects * len(probabilities)])
        self.loss += _log_loss(probabilities, own, objects)
        index = (probabilities * CALIBRATION_BINS).astype(np.int64).clip(max=CALIBRATION_BINS - 1)
        self.bins[0] += objects * np.bincount(index, probabilities, CALIBRATION_BINS)
        self.bins[1] += np.bincount(index[own], minlength=CALIBRATION_BINS)

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
    sums, correct, loss = _LabelSums(calibration.threshold), 0, 0.0
    size, rows = max(1, MAX_SCORES // classes), max(1, CACHED_SCORES // classes)
    for start in range(0, len(sets), size):
        given = scores(slice(start, min(start + size, len(sets))))
        best = given.argmax(axis=1)
        for row in range(0, len(given), rows):
            block = given[row : row + rows].astype(np.float64)
            own_sets = sets.slice(start + row, start + row + len(block))
            pair = np.repeat(np.arange(len(block)), own_sets.lengths)
            own = pair * classes + own_sets.values
            correct += int(np.count_nonzero(best[row + pair] == own_sets.values))
            loss += _log_loss(block.ravel(), own)
            sums.add(calibration(block).ravel(), own)
    metrics = {"model": sums.metrics()}
    if train is not None and len(train):
        shares = np.bincount(train.values, minlength=classes) / len(train)
        metrics[BASELINE] = _baseline_metrics(shares, sets.values.astype(np.int64), len(sets))
    found = LabelEvaluation(objects=len(sets), threshold=calibration.threshold, metrics=metrics)
    return {"accuracy": correct / len(sets), "log_loss": loss / len(sets)}, found


def _log_loss(probabilities: Float64, own: Int64, objects: int = 1) -> float:
    """Return the sum of the log losses of `objects` times the labels (L,) of which those at the places `own` are there.

    Few are there, so that one logarithm a label is enough.
    """
    absent = np.log(np.clip(1 - probabilities, MIN_PROBABILITY, 1))
    present = np.log(np.clip(probabilities[own], MIN_PROBABILITY, 1))
    return float(absent[own].sum() - present.sum() - objects * absent.sum())
