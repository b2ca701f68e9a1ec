"""The most probable labels of objects."""

from __future__ import annotations

import numpy as np
import pytest

from object2vec.retrieval.label_finder import RankedLabels
from object2vec.retrieval.label_probabilities import LabelProbabilities
from object2vec.schema.label import Label

SCORES = np.array([[0.6, 0.4], [0.2, 0.8]], np.float32)


@pytest.mark.parametrize("calibration", [None, LabelProbabilities(exclusive=True, scale=0.5)])
def test_the_only_class_is_certain(calibration: LabelProbabilities | None) -> None:
    """The network has a second class, which no object has."""
    found = RankedLabels.from_scores(SCORES, Label("y", "class", ("a",)), calibration, k=3)
    assert [[(each["y"], each["probability"]) for each in own] for own in found.records()] == [[("a", 1.0)]] * 2


def test_several_labels_of_an_object_are_not_normalized() -> None:
    found = RankedLabels.from_scores(SCORES, Label("y", "class", ("a",), separator="|"), None, k=1)
    assert [own[0]["probability"] for own in found.records()] == pytest.approx([0.6, 0.2])
