"""Instances with top_k of a model that classifies texts: their labels, with calibrated probabilities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

import object2vec
from object2vec.artifact import CONFIG
from object2vec.retrieval.label_probabilities import LabelProbabilities
from object2vec.serving.application import create_app
from object2vec.serving.predictor import Predictor
from raw_models import save_model, text_schema

CALIBRATION = LabelProbabilities(exclusive=True, scale=2.0, threshold=0.4)
TEXTS = ["good", "bad good", "bad", "other"]


def save_labels(directory: Path, labels: Any) -> Path:
    model = save_model(directory, text_schema(), num_classes=2)
    config = json.loads((model / CONFIG).read_text())
    (model / CONFIG).write_text(json.dumps(config | {"training": {"labels": labels}}))
    return model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_labels(tmp_path_factory.mktemp("labels"), CALIBRATION.to_json())


@pytest.fixture(scope="module")
def client(model: Path) -> FlaskClient:
    return create_app(Predictor.load(model)).test_client()


def post(client: FlaskClient, *instances: Any, **headers: str) -> Any:
    return client.post("/invocations", json={"instances": instances}, headers=headers)


def predictions(client: FlaskClient, *instances: Any, **headers: str) -> Any:
    reply = post(client, *instances, **headers)
    assert reply.status_code == 200, reply.text
    return reply.get_json()["predictions"]


def test_labels_are_those_of_python(client: FlaskClient, model: Path) -> None:
    """The answer has the records of `Model.recommend`."""
    found = predictions(client, *({"in0": text, "top_k": 2} for text in TEXTS))
    wanted = object2vec.load(model).recommend(TEXTS, k=2)
    for answer, records in zip(found, wanted, strict=True):
        assert [{**each, "probability": None} for each in answer["recommendations"]] == [
            {**each, "probability": None} for each in records
        ]
        np.testing.assert_allclose(
            [each["probability"] for each in answer["recommendations"]],
            [each["probability"] for each in records],
            rtol=1e-5,
        )


def test_other_instances_of_the_request_get_their_scores(client: FlaskClient) -> None:
    """Requests without top_k are answered as before; several instances ask for different numbers of labels."""
    before = predictions(client, {"in0": "good"}, {"in0": "bad"})
    mixed = predictions(
        client, {"in0": "good"}, {"in0": "good", "top_k": 1}, {"in0": "bad"}, {"in0": "bad", "top_k": 9}
    )
    for answer, alone in zip((mixed[0], mixed[2]), before, strict=True):
        assert answer["scores"] == pytest.approx(alone["scores"])
    assert [len(mixed[row]["recommendations"]) for row in (1, 3)] == [1, 2]
    probabilities = CALIBRATION(np.array([answer["scores"] for answer in before]))
    best = mixed[1]["recommendations"][0]
    assert best["probability"] == pytest.approx(probabilities[0].max())
    assert best["kind"] == ["no", "yes"][int(probabilities[0].argmax())]
    assert best["predicted"] is True


def test_attributes_ask_for_labels_of_all_instances(client: FlaskClient) -> None:
    headers = {"X-Amzn-SageMaker-Custom-Attributes": "object2vec-top-k=1,object2vec-digits=2"}
    found = predictions(client, {"in0": "good"}, {"in0": "bad"}, **headers)
    for answer in found:
        (record,) = answer["recommendations"]
        assert record["probability"] == round(record["probability"], 2)


@pytest.mark.parametrize(
    "instance",
    [
        {"in0": "good", "top_k": 1, "exclude": ["no"]},
        {"in0": "good", "top_k": 1, "filter": "year > 1990"},
        {"in1": [1], "top_k": 1},
    ],
)
def test_what_labels_do_not_have_is_refused(client: FlaskClient, instance: Any) -> None:
    reply = post(client, {"in0": "good"}, instance)
    assert reply.status_code == 400
    sentence = "instances[1]: top_k asks for labels, wanted a raw value of in0, no exclude and no filter"
    assert sentence in reply.get_json()["message"]


def test_labels_need_scores(client: FlaskClient) -> None:
    reply = post(
        client, {"in0": "good", "top_k": 1}, **{"X-Amzn-SageMaker-Custom-Attributes": "object2vec-mode=embedding"}
    )
    assert reply.status_code == 400
    assert "top_k asks for labels, and the mode is embedding, wanted classification" in reply.get_json()["message"]


def test_a_model_without_calibration_answers_with_its_scores(tmp_path: Path) -> None:
    client = create_app(Predictor.load(save_labels(tmp_path, None))).test_client()
    scores, found = predictions(client, {"in0": "good"}, {"in0": "good", "top_k": 1})
    (record,) = found["recommendations"]
    assert set(record) == {"kind", "probability"}
    assert record["probability"] == pytest.approx(max(scores["scores"]))
