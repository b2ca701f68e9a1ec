"""What the error of a diverged training says: each cause is one that is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from object2vec import artifact
from object2vec.errors import AlgorithmError
from object2vec.hyperparameters import parse
from object2vec.hyperparameters.table import OPTIMIZERS
from object2vec.training.distributed import SINGLE_PROCESS
from object2vec.training.divergence import Evidence, divergence_error, largest, largest_labels
from object2vec.training.job import Job, run
from ranks import Ranks, diverge_by_a_label_of_rank_1
from small import SMALL, configured, network_of, write_pairs

REGRESSION = SMALL | {"output_layer": "mean_squared_error", "mini_batch_size": 16, "epochs": 5}


def failure(folder: Path, train: float, validation: float | None = None, **values: object) -> str:
    """Return the error of a job with labels up to `train`, and validation labels up to `validation`."""
    channels = {}
    for name, most in (("train", train), ("validation", validation)):
        if most is not None:
            steps = 1 if values.get("output_layer") == "softmax" else 2
            rows = [([n % 8 + 1], [n % 7 + 1], most * (n % (steps + 1)) / steps) for n in range(60)]
            channels[name] = write_pairs(folder / name, rows)
    if (folder / "auxiliary").is_dir():
        channels["auxiliary"] = folder / "auxiliary"
    job = Job(configuration=parse(REGRESSION | values), channels=channels, model_dir=folder / "model")
    with pytest.raises(AlgorithmError) as raised:
        run(job)
    return re.sub("; the model of epoch .*", "", str(raised.value))


@pytest.mark.parametrize(
    ("label", "values"),
    [
        (5e19, {"learning_rate": 0.000001, "mlp_layers": 1, "mlp_dim": 8}),
        (5e19, {"weight_decay": 10_000}),
        (3e38, {"optimizer": "adadelta", "mlp_layers": 0}),
        (2e25, {"network": "hcnn", "token_embedding_storage_type": "row_sparse", "optimizer": "adagrad"}),
        (-1e30, {"optimizer": "sgd", "learning_rate": 1}),
    ],
)
def test_overflowing_labels_are_named_alone(label: float, values: dict[str, object], tmp_path: Path) -> None:
    """No weight has changed yet, so the error does not name the learning rate."""
    values = {("enc0_network" if name == "network" else name): value for name, value in values.items()}
    said = failure(tmp_path, label, **values)
    number = f"{abs(np.float32(label)):.3g}"
    assert said == (
        f"The loss is inf in epoch 0, batch 0: the largest |label| of channel train is {number}; scale the labels"
    )


@pytest.mark.parametrize("label", [3e38, 1e20])
def test_overflowing_validation_labels_are_named(label: float, tmp_path: Path) -> None:
    """The training labels are in range."""
    said = failure(tmp_path, 1.0, label)
    where = "The validation loss is inf in epoch 0: the largest |label| of channel validation is"
    assert said == f"{where} {label:.3g}; scale the labels"


@pytest.mark.parametrize("label", [1e5, 1e12])
def test_large_labels_are_named_with_the_learning_rate(label: float, tmp_path: Path) -> None:
    """Steps are proportional to labels and learning rate, so either can be reduced."""
    said = failure(tmp_path, label, optimizer="sgd", learning_rate=0.01, mlp_layers=1)
    what = rf"The loss is (inf|nan) in epoch 0, batch \d: the largest \|label\| of channel train is {label:.3g}; "
    assert re.fullmatch(what.replace("+", r"\+") + r"scale the labels, or try a learning_rate below 0\.01", said), said


@pytest.mark.parametrize(
    ("values", "factor", "below"),
    [
        ({"weight_decay": 10_000}, "-3 in each step (1 - 0.0004 * 10000)", "2500"),
        ({"weight_decay": 220, "learning_rate": 0.01, "mlp_layers": 0}, "-1.2 in each step (1 - 0.01 * 220)", "100"),
        (
            {"weight_decay": 10_000, "output_layer": "softmax", "token_embedding_storage_type": "row_sparse"},
            "-3 in each step (1 - 0.0004 * 10000)",
            "2500",
        ),
    ],
)
def test_divergent_weight_decay_is_named(values: dict[str, object], factor: str, below: str, tmp_path: Path) -> None:
    """With sgd, learning_rate * weight_decay above 2 increases the weights in each step."""
    said = failure(tmp_path, 1.0, optimizer="sgd", **({"epochs": 100} | values))
    assert said.endswith(
        f": weight_decay alone multiplies the weights by {factor}; try a weight_decay below {below}"
    ), said
    assert "learning_rate below" not in said


@pytest.mark.parametrize("output_layer", ["softmax", "mean_squared_error"])
@pytest.mark.parametrize("frozen", [True, False])
def test_large_pretrained_embeddings_are_named(frozen: bool, output_layer: str, tmp_path: Path) -> None:
    """Their products overflow in the first batch."""
    (tmp_path / "auxiliary").mkdir()
    lines = [f"w{n} 1e30 -1e30 1e30 -2e30" for n in range(1, 9)]
    (tmp_path / "auxiliary" / "g.txt").write_text("\n".join(lines))
    (tmp_path / "auxiliary" / "v.json").write_text(json.dumps({f"w{n}": n for n in range(1, 9)}))
    values = {"enc0_pretrained_embedding_file": "g.txt", "enc0_vocab_file": "v.json", "output_layer": output_layer}
    said = failure(tmp_path, 1.0, **values, enc0_freeze_pretrained_embedding=frozen)
    what = r"The loss is (inf|nan) in epoch 0, batch 0: the largest \|value\| of enc0's token embeddings"
    assert re.fullmatch(rf"{what} was 2e\+30 at the start; scale the embeddings", said), said


def test_large_embeddings_of_the_initial_model_are_named(tmp_path: Path) -> None:
    """An earlier job may have saved them before it diverged."""
    hyperparameters = configured(output_layer="mean_squared_error")
    network = network_of(hyperparameters)
    network.enc1.embedding.weight.data[3] = 1e30
    artifact.save(tmp_path / "first", network, hyperparameters, training={"epochs": 3}, vocabularies={})
    rows = [([1], [3], 1.0)] * 20
    channels = {"train": write_pairs(tmp_path / "train", rows), "model": tmp_path / "first"}
    job = Job(configuration=parse(REGRESSION), channels=channels, model_dir=tmp_path / "model")
    with pytest.raises(AlgorithmError) as raised:
        run(job)
    what = r"The loss is (inf|nan) in the warm-up epoch, batch 0: the largest \|value\| of enc1's token embeddings"
    assert re.fullmatch(rf"{what} was 1e\+30 at the start; scale the embeddings", str(raised.value))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_learning_rate_is_named_only_if_it_can_be_lowered(optimizer: str) -> None:
    """It is not named before the first step, at its minimum, or for adadelta, which has none."""
    for rate, trained in ((0.1, True), (0.1, False), (0.000001, True)):
        hyperparameters = configured(optimizer=optimizer, learning_rate=rate, output_layer="mean_squared_error")
        evidence = Evidence(hyperparameters=hyperparameters, trained=trained, labels={"train": 5.0})
        said = str(divergence_error("The loss is nan in epoch 3, batch 2", evidence))
        if rate == 0.1 and trained and optimizer != "adadelta":
            assert said == "The loss is nan in epoch 3, batch 2: try a learning_rate below 0.1"
        else:
            values = f"learning_rate is {rate}, weight_decay is 0.0, the largest |label| of channel train is 5"
            assert said == f"The loss is nan in epoch 3, batch 2, and no cause was found: {values}"


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "sgd"])
def test_weight_decay_is_not_named_for_normalized_steps(optimizer: str) -> None:
    """Only sgd's steps are proportional to the weights."""
    evidence = Evidence(hyperparameters=configured(optimizer=optimizer, weight_decay=10_000), trained=False)
    assert "no cause was found: learning_rate is 0.0004, weight_decay is 10000.0" in str(
        divergence_error("x", evidence)
    )


def test_large_prediction_is_named() -> None:
    """The error has the largest prediction."""
    evidence = Evidence(hyperparameters=configured(), trained=True, prediction=3e25)
    said = str(divergence_error("The validation loss is inf in epoch 0", evidence))
    assert said == (
        "The validation loss is inf in epoch 0: the largest |prediction| is 3e+25; try a learning_rate below 0.0004"
    )


def test_several_causes_are_named_together() -> None:
    """Each of them must be removed."""
    hyperparameters = configured(optimizer="sgd", weight_decay=10_000, output_layer="mean_squared_error")
    evidence = Evidence(hyperparameters=hyperparameters, trained=True, labels={"train": 1e19})
    said = str(divergence_error("The loss is inf in epoch 0, batch 5", evidence))
    assert "the largest |label| of channel train is 1e+19 and weight_decay alone multiplies the weights by -3 " in said
    assert said.endswith("; scale the labels and try a weight_decay below 2500")


@pytest.mark.slow
def test_largest_label_is_that_of_all_ranks(tmp_path: Path) -> None:
    """All ranks name a label of one of them."""
    with Ranks(diverge_by_a_label_of_rank_1, tmp_path) as ranks:
        ended = [ranks.ends(rank) for rank in (0, 1)]
    assert [code for code, _ in ended] == [3, 3]
    for _, log in ended:
        assert "in epoch 0, batch 0: the largest |label| of channel train is 1e+25; scale the labels" in log


def test_largest_absolute_value() -> None:
    """The sign does not matter; without numbers it is 0."""
    assert largest(np.array([1, -3, 2], np.float32)) == 3
    assert largest(np.array([-1, -3, 4], np.float32)) == 4
    assert largest(np.empty(0, np.float32)) == 0
    assert largest_labels({"train": np.array([-7], np.float32)}, SINGLE_PROCESS) == {"train": 7}
