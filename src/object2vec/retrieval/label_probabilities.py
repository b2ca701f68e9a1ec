"""Calibrated probabilities of the labels of an object, from the scores of a classifier.

If an object can have several labels, training has a pair for each. The score of a class is then its share of the labels
of an object: two equally likely labels have 0.5 each, even if both are certain. Held-out objects correct this.

Shapes: P pairs, N objects, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from object2vec import artifact
from object2vec.array_types import Bools, Float32, Float64, Int64
from object2vec.data.sequences import Sequences
from object2vec.errors import ArtifactError

#: The names of values in answers.
PROBABILITY: Final = "probability"
PREDICTED: Final = "predicted"
#: Scores are clipped to this distance from 0 and 1, about the resolution of float32 below 1.
MIN_SCORE: Final = 1e-7
#: A negative scale would reverse the order of labels.
MIN_SCALE: Final = 1e-3
NEWTON_STEPS: Final = 50
TOLERANCE: Final = 1e-9

#: The loss of parameters (K,), its gradient (K,), and its second derivatives (K, K).
Derivatives = tuple[float, Float64, Float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelProbabilities:
    """The calibration of a model, and the `threshold` from which a label is predicted.

    If labels are `exclusive`, an object has one. Then `scale` is the inverse of a temperature, and probabilities add up
    to 1. Otherwise each label has a probability of its own: Platt scaling, with one `scale` and `shift` of the log odds
    for all labels. `objects` were used to choose these numbers.
    """

    exclusive: bool
    scale: float = 1.0
    shift: float = 0.0
    threshold: float = 0.5
    objects: int = 0

    @classmethod
    def fit(cls, scores: Float32, has_label: Bools, *, exclusive: bool) -> LabelProbabilities:
        """Choose the calibration by log loss and the threshold by micro F1.

        `scores` (N, C) are those of held-out objects; `has_label` (N, C) is which labels they have.
        """
        logs = _logarithms(scores, exclusive=exclusive)
        loss = _softmax_loss if exclusive else _sigmoid_loss
        scale, *shift = _minimize(lambda values: loss(values, logs, has_label), [1.0] if exclusive else [1.0, 0.0])
        found = cls(exclusive=exclusive, scale=max(scale, MIN_SCALE), shift=sum(shift), objects=len(scores))
        return replace(found, threshold=best_threshold(found(scores), has_label))

    def __call__(self, scores: Float32 | Float64) -> Float64:
        """Return the probability (N, C) that an object has each label."""
        logits = self.scale * _logarithms(scores, exclusive=self.exclusive) + self.shift
        return _softmax(logits) if self.exclusive else _sigmoid(logits)

    def to_json(self) -> dict[str, Any]:
        """Return the calibration as JSON values."""
        return asdict(self)

    @classmethod
    def read(cls, directory: Path) -> LabelProbabilities | None:
        """Return the calibration in a model directory; None if the model has none.

        Raises:
            ArtifactError: it is damaged.
        """
        saved = artifact.read_training(directory).get("labels")
        if saved is None:
            return None
        given: dict[str, Any] = saved if isinstance(saved, dict) else {}
        numbers = {name: given.get(name, math.nan) for name in ("scale", "shift", "threshold")}
        if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers.values()):
            what = '"labels" is damaged, wanted an object with the numbers "scale", "shift" and "threshold"'
            raise ArtifactError(f"{directory / artifact.CONFIG}: {what}")
        return cls(exclusive=given.get("exclusive") is True, objects=given.get("objects", 0), **numbers)


def group_labels(objects: Int64, labels: Int64, classes: int, *, exclusive: bool) -> tuple[Int64, Bools]:
    """Return the first pair of each object (N,), and which labels the object has (N, C).

    `objects` and `labels` (P,) are numbers. If labels are not `exclusive`, consecutive pairs with the same object are
    one object with several labels. A repeated label begins another object.
    """
    starts, seen, last = [], set[int](), -1
    for place, (number, label) in enumerate(zip(objects.tolist(), labels.tolist(), strict=True)):
        if exclusive or number != last or label in seen:
            starts.append(place)
            seen, last = set(), number
        seen.add(label)
    first = np.array(starts, np.int64)
    has_label = np.zeros((len(first), classes), np.bool_)
    has_label[np.searchsorted(first, np.arange(len(labels)), "right") - 1, labels] = True
    return first, has_label


def has_labels(labels: Sequences, classes: int) -> Bools:
    """Return which labels each of N objects has, (N, C)."""
    has_label = np.zeros((len(labels), classes), np.bool_)
    has_label[np.repeat(np.arange(len(labels)), labels.lengths), labels.values] = True
    return has_label


def best_threshold(probabilities: Float64, has_label: Bools | Float64) -> float:
    """Return the threshold of probabilities that gives the highest micro F1, of labels or shares of the same shape."""
    order = np.argsort(-probabilities, axis=None, kind="stable")
    falling, found = probabilities.ravel()[order], np.cumsum(has_label.ravel()[order])
    f1 = 2 * found / (np.arange(1, len(found) + 1) + max(found[-1], 1))
    ends = np.append(falling[1:] < falling[:-1], True)  # equal probabilities are predicted together
    best = int(np.argmax(np.where(ends, f1, -1)))
    return float(falling[best : best + 2].mean())


def _logarithms(scores: Float32 | Float64, *, exclusive: bool) -> Float64:
    """Return the logarithms of scores, or their log odds if labels are not exclusive."""
    clipped = np.clip(scores.astype(np.float64), MIN_SCORE, 1 - MIN_SCORE)
    return np.log(clipped) if exclusive else np.log(clipped) - np.log1p(-clipped)


def _sigmoid(logits: Float64) -> Float64:
    return np.asarray(0.5 + np.tanh(logits / 2) / 2)  # exp would overflow


def _softmax(logits: Float64) -> Float64:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _sigmoid_loss(values: Float64, odds: Float64, has_label: Bools) -> Derivatives:
    """Return the log loss of each label with a scale and a shift."""
    logits = values[0] * odds + values[1]
    loss = np.logaddexp(0, logits).sum() - logits[has_label].sum()
    probabilities = _sigmoid(logits)
    error, weight = probabilities - has_label, probabilities * (1 - probabilities)
    gradient = np.array([(error * odds).sum(), error.sum()])
    mixed = (weight * odds).sum()
    return loss, gradient, np.array([[(weight * odds**2).sum(), mixed], [mixed, weight.sum()]])


def _softmax_loss(values: Float64, logs: Float64, has_label: Bools) -> Derivatives:
    """Return the log loss of the only label with a scale."""
    logits = values[0] * logs
    probabilities = _softmax(logits)
    mean = (probabilities * logs).sum(axis=1)
    variance = (probabilities * logs**2).sum(axis=1) - mean**2
    loss = np.logaddexp.reduce(logits, axis=1).sum() - logits[has_label].sum()
    return loss, np.array([mean.sum() - logs[has_label].sum()]), np.array([[variance.sum()]])


def _minimize(derivatives: Callable[[Float64], Derivatives], start: list[float]) -> list[float]:
    """Return the parameters of the lowest loss, by Newton's method.

    A ridge around `start` keeps the parameters finite if few objects would be separated perfectly.
    """
    initial = np.array(start)

    def with_ridge(values: Float64) -> Derivatives:
        loss, gradient, second = derivatives(values)
        offset = values - initial
        return loss + float(offset @ offset) / 2, gradient + offset, second + np.eye(len(offset))

    values, (loss, gradient, second) = initial, with_ridge(initial)
    for _ in range(NEWTON_STEPS):
        step = np.linalg.solve(second, gradient)
        while (found := with_ridge(values - step))[0] > loss and np.abs(step).max() > TOLERANCE:
            step /= 2
        values, (loss, gradient, second) = values - step, found
        if np.abs(step).max() <= TOLERANCE:
            break
    return [float(value) for value in values]
