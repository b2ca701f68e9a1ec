"""The Python API: train, load, score, encode, evaluate and save."""

from __future__ import annotations

import gc
import json
import os
import pickle
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import object2vec
from object2vec import artifact
from object2vec.cli import main
from object2vec.errors import HyperparameterError, UserError
from small import configured, network_of, write_pairs

ROWS = [(user, item, int(user % 2 == item % 2)) for user in range(1, 9) for item in range(1, 9)]
TABLE = dict(zip(("in0", "in1", "label"), map(list, zip(*ROWS, strict=True)), strict=True))
SETTINGS: dict[str, Any] = {
    "enc0_network": "pooled_embedding",
    "enc0_max_seq_len": 1,
    "enc0_vocab_size": 9,
    "enc0_token_embedding_dim": 4,
    "comparator_list": "hadamard",
    "mlp_layers": 0,
    "epochs": 3,
    "learning_rate": 0.05,
    "log": "quiet",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> object2vec.Model:
    return object2vec.fit(TABLE, validation=TABLE, model_dir=tmp_path_factory.mktemp("model"), **SETTINGS)


def test_fit_gives_the_model_that_the_command_gives(model: object2vec.Model, tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "data.jsonl", [([a], [b], label) for a, b, label in ROWS])
    settings = [f"{name}={value}" for name, value in SETTINGS.items() if name != "log"]
    channels = ["--train", str(data), "--validation", str(data)]
    assert (
        main(["train", "--log", "quiet", "--out", str(tmp_path / "m"), *channels, "--hyperparameters", *settings]) == 0
    )
    other = object2vec.load(tmp_path / "m")
    assert other.history == model.history
    for name, weight in model.network.named_parameters():
        assert weight.equal(other.network.get_parameter(name))


def test_a_channel_of_files_gives_the_same_model(model: object2vec.Model, tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "data.jsonl", [([a], [b], label) for a, b, label in ROWS])
    assert object2vec.fit(data, validation=str(data), **SETTINGS).history == model.history


def test_history_has_the_metrics_of_each_epoch(model: object2vec.Model) -> None:
    assert [record["epoch"] for record in model.history] == [0, 1, 2]
    assert model.history[2]["validation"]["cross_entropy"] < model.history[0]["validation"]["cross_entropy"]


def test_a_callback_gets_each_epoch_and_can_end_training() -> None:
    records: list[Mapping[str, Any]] = []

    def enough(record: Mapping[str, Any]) -> bool:
        records.append(record)
        return record["epoch"] == 1

    found = object2vec.fit(TABLE, callbacks=[enough], **SETTINGS)
    assert found.history == records
    assert [record["epoch"] for record in records] == [0, 1]


def test_results_do_not_depend_on_threads_as_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting of matrix products, which is read when the first one is computed, is only there in training."""
    monkeypatch.delenv("MKL_CBWR", raising=False)
    seen: list[str] = []
    object2vec.fit(TABLE, callbacks=[lambda _: seen.append(os.environ["MKL_CBWR"])], **SETTINGS)
    assert seen == ["AUTO,STRICT"] * 3
    assert "MKL_CBWR" not in os.environ


def test_ctrl_c_ends_training_and_keeps_the_best_epoch() -> None:
    def interrupt(record: Mapping[str, Any]) -> None:
        if record["epoch"] == 1:
            os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    found = object2vec.fit(TABLE, callbacks=[interrupt], **SETTINGS)
    assert len(found.history) == 2
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_second_ctrl_c_interrupts() -> None:
    def interrupt_twice(_: Mapping[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        object2vec.fit(TABLE, callbacks=[interrupt_twice], **SETTINGS)


def test_scores_are_the_same_for_arrays_and_lists(model: object2vec.Model) -> None:
    pairs = np.array([(a, b) for a, b, _ in ROWS])
    scores = model.score(pairs)
    assert scores.shape == (64, 2)
    np.testing.assert_allclose(scores, model.score([([a], [b]) for a, b, _ in ROWS]), rtol=1e-5)


def test_evaluate_takes_tables_and_channels(model: object2vec.Model, tmp_path: Path) -> None:
    found = model.evaluate(TABLE, TABLE)
    assert found.metrics["model"]["log_loss"] == pytest.approx(
        model.history[2]["validation"]["cross_entropy"], rel=1e-4
    )
    assert set(found.metrics) == {"model", "class frequencies"}
    path = write_pairs(tmp_path / "test" / "part.jsonl", [([a], [b], label) for a, b, label in ROWS])
    assert model.evaluate(path).metrics["model"] == found.metrics["model"]
    assert list(model.evaluate(tmp_path).metrics) == ["model"], "a folder with the channel test alone"
    write_pairs(tmp_path / "train" / "part.jsonl", [([1], [1], 1)])
    assert set(model.evaluate(tmp_path).metrics) == {"model", "class frequencies"}


def test_save_copies_the_whole_model(model: object2vec.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "copy" / "model")
    other = object2vec.load(str(tmp_path / "copy" / "model"))
    assert other.history == model.history
    np.testing.assert_array_equal(other.encode([[3]], "in0"), model.encode([[3]], "in0"))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(other)).encode([[3]], "in0"), model.encode([[3]], "in0"))


def test_a_model_in_a_temporary_folder_is_pickled_with_its_files(tmp_path: Path) -> None:
    """The copy needs neither the model nor its folder, which is removed after the last use."""
    found = object2vec.fit(TABLE, **SETTINGS)
    folder, wanted = found.predictor.directory, found.encode([[3]], "in0")
    pickled = pickle.dumps(found)
    assert folder.exists()
    del found
    gc.collect()
    assert not folder.exists()
    copy = pickle.loads(pickled)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(copy)).encode([[3]], "in0"), wanted)
    copy.save(tmp_path / "copy")
    np.testing.assert_array_equal(object2vec.load(tmp_path / "copy").encode([[3]], "in0"), wanted)


def test_a_model_of_an_older_version_has_no_history(tmp_path: Path) -> None:
    hyperparameters = configured()
    artifact.save(tmp_path, network_of(hyperparameters), hyperparameters, training={}, vocabularies={})
    assert object2vec.load(tmp_path).history == []


def test_scores_of_a_loaded_linear_head_equal_those_of_its_network(tmp_path: Path) -> None:
    hyperparameters = configured(mlp_layers=0)
    artifact.save(tmp_path, network_of(hyperparameters), hyperparameters, training={}, vocabularies={})
    model = object2vec.load(tmp_path)
    np.testing.assert_allclose(model.score(np.array([[1, 2]])), model.score([([1], [2])]), rtol=1e-5)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"in0": [1], "in1": [2]}, "there is no column label, wanted the columns in0, in1 and label"),
        (3, "data is the value 3, wanted a DataFrame"),
        ({"in0": [1], "in1": [99], "label": [1]}, 'line 1: Inconsistent vocab for in1 found. Vocab id "99"'),
    ],
)
def test_data_that_cannot_be_trained_on_is_an_error(data: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        object2vec.fit(data, **SETTINGS)


def test_a_wrong_hyperparameter_is_an_error() -> None:
    with pytest.raises(HyperparameterError, match="epoch: no such hyperparameter, the nearest is epochs"):
        object2vec.fit(TABLE, epoch=3, **SETTINGS)


def test_a_choice_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(UserError, match="recipe is 'x', wanted one of ratings, "):
        object2vec.fit(TABLE, recipe="x")
    with pytest.raises(UserError, match="log is 'x', wanted one of sagemaker, bar, plain, quiet"):
        object2vec.fit(TABLE, log="x")  # type: ignore[arg-type]


def test_the_module_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'train'"):
        object2vec.train  # noqa: B018


def test_fit_takes_the_limits_of_prepare(tmp_path: Path) -> None:
    rows = {"genres": [["a", "b", "c"], ["d", "e"]] * 20, "film": ["x", "y"] * 20}
    options = {"split": "none", "epochs": 1, "mini_batch_size": 8, "log": "quiet"}
    object2vec.fit(rows, "genres:list", "film", max_tokens=2, unknown_rate=0, model_dir=tmp_path, **options)
    assert json.loads((tmp_path / "config.json").read_text())["hyperparameters"]["enc0_max_seq_len"] == 2
    for name, value in (("max_tokens", 0), ("unknown_rate", 1.5)):
        with pytest.raises(UserError, match=f"{name} is {value}, wanted a number from"):
            object2vec.fit(rows, "genres:list", "film", **{name: value}, **options)
