"""Evaluation of several classes a pair, and of many classes, in blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from object2vec.array_types import Float32, Int64
from object2vec.data.sequences import Pairs, Sequences
from object2vec.evaluation import evaluation as evaluation_module
from object2vec.evaluation.evaluation import Evaluation, PairScores, evaluate
from object2vec.evaluation.metrics import classification_metrics
from object2vec.retrieval.label_probabilities import LabelProbabilities, has_labels
from small import pairs_of

CLASSES = 5
GENERATOR = np.random.default_rng(0)
SCORES = GENERATOR.dirichlet(np.ones(CLASSES), 40).astype(np.float32)
SETS = Sequences.from_lists([np.flatnonzero(GENERATOR.random(CLASSES) < 0.4).tolist() for _ in range(40)])
LABELS = GENERATOR.integers(0, CLASSES, 40)


def pairs(labels: np.ndarray, classes: Sequences | None = None) -> Pairs:
    return replace(pairs_of([([n + 1], [], float(label)) for n, label in enumerate(labels)]), classes=classes)


def scorer(objects: tuple[Sequences, Sequences]) -> PairScores:
    def scores(left: Int64, right: Int64) -> Float32:
        return SCORES[objects[0].values[left] - 1]

    return scores


@pytest.mark.parametrize("block", [1, 7, 2**20])
def test_several_classes_by_hand(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics of labels count each label of each pair; they do not depend on the blocks."""
    monkeypatch.setattr("object2vec.evaluation.labels.MAX_SCORES", block * CLASSES)
    monkeypatch.setattr("object2vec.evaluation.labels.CACHED_SCORES", 3 * CLASSES)
    calibration = LabelProbabilities(exclusive=False, threshold=0.3)
    test = pairs(SETS.lengths, SETS)
    found = evaluate(scorer, test, test, classes=CLASSES, label_probabilities=calibration)
    has, given = has_labels(SETS, CLASSES), SCORES.astype(np.float64)
    right = np.where(has, given, 1 - given)
    assert found.metrics["model"]["log_loss"] == pytest.approx(-np.log(right).sum(axis=1).mean(), rel=1e-5)
    assert found.metrics["model"]["accuracy"] == has[np.arange(40), given.argmax(axis=1)].mean()
    labels, predicted = found.labels.metrics["model"], given >= 0.3
    assert labels["precision"] == pytest.approx((predicted & has).sum() / predicted.sum())
    assert labels["recall"] == pytest.approx((predicted & has).sum() / has.sum())
    assert labels["log_loss"] == pytest.approx(-np.log(right).mean(), rel=1e-5)
    bins = np.minimum((given * 10).astype(int), 9)
    gaps = [abs((given - has)[bins == number].sum()) for number in range(10)]
    assert labels["calibration_error"] == pytest.approx(sum(gaps) / has.size, abs=1e-6)
    assert found.labels.objects == 40
    assert set(found.labels.metrics) == {"model", "label frequencies"}
    assert "labels of 40 in0" in str(found)
    assert found.to_dict()["labels"]["metrics"]["model"] == labels
    assert found.to_html()


def of_many(monkeypatch: pytest.MonkeyPatch, block: int) -> Evaluation:
    monkeypatch.setattr(evaluation_module, "MANY_CLASSES", 2)
    monkeypatch.setattr(evaluation_module, "MAX_SCORES", block * CLASSES)
    return evaluate(scorer, pairs(LABELS), pairs(LABELS[:20]), classes=CLASSES)


@pytest.mark.parametrize("block", [1, 7, 39])
def test_blocks_have_the_metrics_of_all_scores(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the AUC and the confusion matrix, which need all scores, are left out."""
    found, whole = of_many(monkeypatch, block), of_many(monkeypatch, 40)
    for system, metrics in whole.metrics.items():
        wanted = metrics | {"auc": np.nan}
        assert found.metrics[system] == pytest.approx(wanted, rel=1e-6, nan_ok=True)
    assert whole.confusion is not None
    assert found.confusion is None
    assert whole.metrics["model"] == pytest.approx(classification_metrics(SCORES.astype(np.float64), LABELS))
    assert found.to_html()
