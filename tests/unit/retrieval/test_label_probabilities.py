"""Calibrated probabilities of labels, and the threshold from which a label is predicted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from object2vec.array_types import Bools, Float32, Float64
from object2vec.errors import ArtifactError
from object2vec.retrieval.label_probabilities import LabelProbabilities, best_threshold, group_labels

GENERATOR = np.random.default_rng(0)


def softmax(logits: Any) -> Any:
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def several_labels(objects: int) -> tuple[Float32, Bools, Float64]:
    """Return the shares of labels that a model learns, labels, and the true probabilities they are drawn from."""
    true = 1 / (1 + np.exp(-GENERATOR.normal(-1, 1.5, (objects, 5))))
    shares = true / true.sum(axis=1, keepdims=True)
    return shares.astype(np.float32), GENERATOR.random(true.shape) < true, true


def log_loss(probabilities: Float64, has_label: Bools) -> float:
    return float(-np.log(np.where(has_label, probabilities, 1 - probabilities)).mean())


def test_shares_of_several_labels_become_probabilities() -> None:
    """Each label has the probability that an object has it; the shares of a softmax are too low."""
    scores, has_label, _ = several_labels(4000)
    fitted = LabelProbabilities.fit(scores, has_label, exclusive=False)
    new_scores, new_labels, true = several_labels(4000)
    probabilities = fitted(new_scores)
    assert probabilities.mean() == pytest.approx(true.mean(), abs=0.02)
    assert log_loss(probabilities, new_labels) < log_loss(new_scores.astype(np.float64), new_labels) - 0.05
    assert fitted.objects == 4000


def test_overconfident_scores_of_one_label_are_cooled() -> None:
    """Scores of logits that are three times too large get the scale 1/3, and add up to 1."""
    logits = GENERATOR.normal(size=(5000, 4))
    drawn = (softmax(logits).cumsum(axis=1) < GENERATOR.random((5000, 1))).sum(axis=1)
    scores = softmax(3 * logits).astype(np.float32)
    fitted = LabelProbabilities.fit(scores, np.eye(4, dtype=bool)[drawn], exclusive=True)
    assert fitted.scale == pytest.approx(1 / 3, rel=0.1)
    assert fitted.shift == 0
    np.testing.assert_allclose(fitted(scores).sum(axis=1), 1)
    np.testing.assert_allclose(fitted(scores), softmax(fitted.scale * 3 * logits), atol=0.01)


@pytest.mark.parametrize("exclusive", [True, False])
def test_calibration_has_the_lowest_log_loss(exclusive: bool) -> None:
    """No scale and shift close to the fitted ones has a lower loss, apart from the ridge."""
    scores, has_label, _ = several_labels(2000)
    if exclusive:
        has_label = np.eye(5, dtype=bool)[has_label.argmax(axis=1)]
    fitted = LabelProbabilities.fit(scores, has_label, exclusive=exclusive)

    def loss(scale: float, shift: float) -> float:
        found = LabelProbabilities(exclusive=exclusive, scale=scale, shift=shift)(scores)
        return -float(np.log(found[has_label]).mean()) if exclusive else log_loss(found, has_label)

    best = loss(fitted.scale, fitted.shift)
    for scale, shift in ((0.05, 0), (-0.05, 0), *(() if exclusive else ((0, 0.05), (0, -0.05)))):
        assert loss(fitted.scale + scale, fitted.shift + shift) > best


@pytest.mark.parametrize("exclusive", [True, False])
def test_few_objects_give_finite_values(exclusive: bool) -> None:
    """One object with certain scores is separated perfectly; the calibration stays close to the scores."""
    scores = np.array([[1, 0, 0]], np.float32)
    fitted = LabelProbabilities.fit(scores, np.array([[True, False, False]]), exclusive=exclusive)
    assert 0.9 < fitted.scale < 3
    assert fitted(scores)[0, 0] > 0.9
    wrong = LabelProbabilities.fit(scores, np.array([[False, True, not exclusive]]), exclusive=exclusive)
    assert wrong.scale > 0
    assert np.isfinite(wrong(scores)).all()


def test_threshold_has_the_highest_micro_f1() -> None:
    """No other threshold gives a higher micro F1; equal probabilities are on the same side of it."""
    probabilities = np.round(GENERATOR.random((200, 4)), 2)
    has_label = GENERATOR.random((200, 4)) < probabilities**2

    def micro_f1(threshold: float) -> float:
        predicted = probabilities >= threshold
        return float(2 * (predicted & has_label).sum() / (predicted.sum() + has_label.sum()))

    found = best_threshold(probabilities, has_label)
    assert micro_f1(found) == max(micro_f1(each) for each in np.unique(probabilities))
    assert found not in probabilities


def test_threshold_without_labels_is_a_probability() -> None:
    assert 0 <= best_threshold(np.array([[0.2, 0.8]]), np.array([[False, False]])) <= 1


def test_consecutive_pairs_of_an_object_are_its_labels() -> None:
    """Another object, or a repeated label, begins a new object."""
    first, has_label = group_labels(np.array([7, 7, 8, 8, 7]), np.array([0, 2, 1, 1, 0]), 3, exclusive=False)
    assert first.tolist() == [0, 2, 3, 4]
    assert has_label.tolist() == [[True, False, True], [False, True, False], [False, True, False], [True, False, False]]
    first, has_label = group_labels(np.array([7, 7]), np.array([0, 2]), 3, exclusive=True)
    assert first.tolist() == [0, 1]
    assert has_label.tolist() == [[True, False, False], [False, False, True]]


def test_a_model_directory_keeps_the_calibration(tmp_path: Path) -> None:
    scores, has_label, _ = several_labels(50)
    fitted = LabelProbabilities.fit(scores, has_label, exclusive=False)
    write_config(tmp_path, {"labels": fitted.to_json()})
    assert LabelProbabilities.read(tmp_path) == fitted
    write_config(tmp_path, {})
    assert LabelProbabilities.read(tmp_path) is None


@pytest.mark.parametrize("value", [3, {}, {"scale": "1", "shift": 0, "threshold": 0.5}, {"scale": float("nan")}])
def test_a_damaged_calibration_is_refused(value: object, tmp_path: Path) -> None:
    write_config(tmp_path, {"labels": value})
    with pytest.raises(ArtifactError, match='json: "labels" is damaged, wanted an object with the numbers "scale"'):
        LabelProbabilities.read(tmp_path)


def write_config(directory: Path, training: object) -> None:
    (directory / "config.json").write_text(json.dumps({"training": training}))
