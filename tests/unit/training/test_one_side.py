"""Classification of in0 alone: training, the model, and what it serves."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from flask.testing import FlaskClient

import object2vec
import reference
from object2vec import artifact
from object2vec.errors import DataError, HyperparameterError, RequestError
from object2vec.hyperparameters import parse
from object2vec.serving.application import create_app
from object2vec.serving.predictor import Predictor
from object2vec.training.checks import check_job
from object2vec.training.job import Job, run
from small import SMALL, weights_of

LINES = [json.dumps({"in0": [a, b], "label": int(a > 4)}) for a in range(1, 9) for b in range(1, 9)]
PAIRS = [json.dumps({"in0": [a], "in1": [b], "label": int(a > 4)}) for a in range(1, 9) for b in range(1, 9)]


def job(folder: Path, lines: list[str], **changes: object) -> Job:
    channels = {name: folder / name for name in ("train", "validation")}
    for path in channels.values():
        path.write_text("".join(f"{line}\n" for line in lines))
    values = SMALL | {"epochs": 15, "learning_rate": 0.05, "early_stopping_patience": 5} | changes
    return Job(configuration=parse(values), channels=channels, model_dir=folder / "model")


def trained(folder: Path, lines: list[str] = LINES, **changes: object) -> Predictor:
    made = job(folder, lines, **changes)
    check_job(made)
    run(made, style="quiet")
    return Predictor.load(folder / "model")


def test_error_names_the_line_after_a_list_of_lists_of_another_key(tmp_path: Path) -> None:
    lines = [*LINES[:2], '{"in0": [1], "label": 1, "note": [[1]]}', '{"in0": [1], "label": 7, "note": [[1]]}']
    with pytest.raises(DataError, match=r"train, line 4: label is 7, wanted a class from 0 to 1"):
        run(job(tmp_path, lines), style="quiet")


@pytest.mark.parametrize(
    "changes",
    [{}, {"mlp_layers": 0}, {"enc0_network": "hcnn"}, {"enc0_network": "bilstm", "mlp_activation": "tanh"}],
    ids=["layers", "linear", "hcnn", "bilstm"],
)
def test_records_without_in1_train_one_encoder(tmp_path: Path, changes: dict[str, object]) -> None:
    """The data decide; the model has no second encoder, and its scores are those of the reference."""
    model = trained(tmp_path, **changes)
    assert model.hyperparameters.one_sided
    assert artifact.read_config(tmp_path / "model") == model.hyperparameters
    weights = weights_of(model.network)
    assert not any(name.startswith("enc1") for name in weights)
    objects = [[1, 2], [7, 2], [8], []]
    for tokens, own in zip(objects, model.score(objects), strict=True):
        np.testing.assert_allclose(own, reference.score(model.hyperparameters, weights, tokens, []), atol=1e-5)
    assert model.score([[8, 8]])[0, 1] > 0.8 > 0.2 > model.score([[1, 1]])[0, 1]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one side")
    trained(folder, epochs=2)
    return folder / "model"


def ask(client: FlaskClient, *instances: dict, **headers: str) -> list[dict]:
    given = {"X-Amzn-SageMaker-Custom-Attributes": headers["attributes"]} if headers else {}
    return client.post("/invocations", json={"instances": instances}, headers=given).json["predictions"]


def test_an_object_alone_is_answered_with_scores(model_dir: Path) -> None:
    """A two-sided model answers one side with embeddings; this one only in embedding mode."""
    model = Predictor.load(model_dir)
    client = create_app(model).test_client()
    scores = [answer["scores"] for answer in ask(client, {"in0": [1, 2]}, {"in0": [7], "in1": []})]
    np.testing.assert_allclose(scores, model.score([[1, 2], [7]]), atol=1e-6)
    (answer,) = ask(client, {"in0": [1, 2]}, attributes="object2vec-mode=embedding")
    np.testing.assert_allclose(answer["embeddings"], model.encode([[1, 2]], "in0")[0], atol=1e-6)


def test_in1_is_refused(model_dir: Path) -> None:
    client = create_app(Predictor.load(model_dir)).test_client()
    reply = client.post("/invocations", json={"instances": [{"in0": [1]}, {"in1": [1]}]})
    assert reply.status_code == 400
    assert reply.json["message"] == "instances[1] has no in0, wanted it alone: this model has no in1"
    assert client.post("/invocations", json={"instances": [{"in0": [1], "in1": [5]}]}).status_code == 400


def test_python_takes_objects(model_dir: Path) -> None:
    model = object2vec.load(model_dir)
    assert model.score([[1, 2], [7]]).shape == (2, 2)
    assert model.evaluate({"in0": [[1], [8]], "in1": [[], []], "label": [0, 1]}).metrics["model"]["log_loss"] > 0
    with pytest.raises(RequestError, match="wanted a list of integer token ids"):
        model.score([1, 2])


def test_data_with_in1_train_two_encoders(tmp_path: Path) -> None:
    assert not trained(tmp_path, PAIRS, epochs=1).hyperparameters.one_sided


@pytest.mark.parametrize(
    ("lines", "changes", "sentence"),
    [
        ([*LINES, PAIRS[0]], {}, "train, line 65: in1 is the list [1], wanted no in1: the first record has in0 alone"),
        ([*PAIRS, LINES[0]], {}, "train, line 65: no in1, wanted an object like"),
        (PAIRS, {"enc1_network": "none"}, "train, line 1: in1 is the list [1], wanted no in1"),
        (LINES, {"enc1_network": "enc0"}, "train, line 1: no in1, wanted an object like"),
        (LINES, {"negative_sampling_rate": 2}, "train, line 1: no in1, wanted an object like"),
    ],
)
def test_data_that_do_not_fit_are_named(
    tmp_path: Path, lines: list[str], changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(DataError) as raised:
        run(job(tmp_path, lines, **changes), style="quiet")
    assert sentence in str(raised.value)


def test_a_training_on_one_side_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        trained(tmp_path, epochs=1)
    assert "Records of channel train have no in1: enc1_network is none" in caplog.messages


def test_hyperparameters_that_need_two_sides() -> None:
    values = SMALL | {"enc1_network": "none", "tied_token_embedding_weight": True, "negative_sampling_rate": 3}
    with pytest.raises(HyperparameterError) as raised:
        parse(values)
    assert "tied_token_embedding_weight: got 'True', wanted False with enc1_network=none" in str(raised.value)
    assert "negative_sampling_rate: got '3', wanted 0 with enc1_network=none" in str(raised.value)
    parsed = parse(SMALL | {"enc1_network": "none", "enc1_vocab_size": 7})
    assert parsed.warnings == ("enc1_vocab_size=7 has no effect with enc1_network=none",)
    assert parse(parsed.hyperparameters.to_dict()).hyperparameters == parsed.hyperparameters
    assert not parse(parsed.hyperparameters.to_dict()).warnings
    counted_from_1 = {name.replace("enc0", "enc1"): value for name, value in SMALL.items()}
    assert parse(counted_from_1 | {"enc2_network": "none"}).hyperparameters.one_sided
    assert parse(SMALL | {"recipe": "text-classification", "enc1_network": "none"}).hyperparameters.one_sided
    for absent in ("None", "NULL", ""):
        assert parse(SMALL | {"enc1_network": absent}).hyperparameters.encoders[1].network == "pooled_embedding"
