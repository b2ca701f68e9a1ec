"""Evaluate the labels that are predicted for objects which can have several.

Shapes: P pairs, N objects, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from object2vec.array_types import Bools, Float64, Int64
from object2vec.evaluation.metrics import MIN_PROBABILITY, binned
from object2vec.retrieval.label_probabilities import LabelProbabilities, best_threshold, group_labels

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
    predicted = probabilities >= threshold
    found, guessed, wanted = (int(which.sum()) for which in (predicted & has_label, predicted, has_label))
    clipped = np.clip(np.where(has_label, probabilities, 1 - probabilities), MIN_PROBABILITY, 1)
    return {
        "micro_f1": 2 * found / max(guessed + wanted, 1),
        "precision": found / guessed if guessed else float("nan"),
        "recall": found / wanted if wanted else float("nan"),
        "log_loss": -float(np.log(clipped).mean()),
        "calibration_error": binned(probabilities.ravel(), has_label.ravel()).error,
    }
