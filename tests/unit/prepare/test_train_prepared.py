"""From a table to a model: `prepare`, then `train --data`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from object2vec.cli import main
from object2vec.hyperparameters import SCHEMA_FILES
from object2vec.schema.schema import Schema

pytest.importorskip("duckdb")

QUICK = ["--hyperparameters", "epochs=1", "enc0_token_embedding_dim=4", "enc1_token_embedding_dim=4"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    rows = "\n".join(f"user{n % 9},{n % 7},{n % 5}" for n in range(300))
    (folder / "table.csv").write_text(f"u,i,y\n{rows}\n")
    argv = [str(folder / "table.csv"), "--in0", "u", "--in1", "i", "--label", "y"]
    assert main(["prepare", *argv, "--out", str(folder / "data")]) == 0
    assert main(["train", "--data", str(folder / "data"), "--out", str(folder / "model"), *QUICK]) == 0
    return folder


def test_the_model_has_the_schema_of_its_data(prepared: Path) -> None:
    for name in SCHEMA_FILES:
        assert (prepared / "model" / name).read_bytes() == (prepared / "data/schema" / name).read_bytes()
    assert Schema.load(prepared / "model").encode("in0", ["user3"]).ids.tolist() > [2]


def test_log_names_the_recipe_and_no_warning(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["train", "--data", str(prepared / "data"), "--out", str(prepared / "again"), *QUICK]
    assert main([*argv, "--log", "sagemaker"]) == 0
    printed = capsys.readouterr()
    assert 'Recipe ratings sets: {"enc0_network": "pooled_embedding"' in printed.out
    assert "WARN" not in printed.out + printed.err


def test_given_values_take_precedence(prepared: Path) -> None:
    """The command line over the recipe, and channels over those of the folder."""
    argv = [
        "train",
        "--data",
        str(prepared / "data"),
        "--recipe",
        "cold-start",
        "--train",
        str(prepared / "data/test.jsonl"),
    ]
    assert main([*argv, "--out", str(prepared / "other"), *QUICK, "negative_sampling_rate=1"]) == 0
    found = json.loads((prepared / "other/config.json").read_text())["hyperparameters"]
    assert (found["recipe"], found["negative_sampling_rate"], found["comparator_list"]) == (
        "cold-start",
        1,
        "hadamard, concat",
    )


def test_a_model_without_a_schema_replaces_one_with(prepared: Path, tmp_path: Path) -> None:
    sizes = ["enc0_max_seq_len=1", "enc0_vocab_size=20", "enc1_network=pooled_embedding", "enc1_max_seq_len=1"]
    argv = ["train", "--train", str(prepared / "data/train.jsonl"), "--out", str(tmp_path), *QUICK, *sizes]
    assert main(["train", "--data", str(prepared / "data"), "--out", str(tmp_path), *QUICK]) == 0
    network = ["enc1_vocab_size=20", "enc0_network=pooled_embedding", "output_layer=mean_squared_error"]
    assert main([*argv, *network]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_a_schema_that_does_not_fit(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["train", "--data", str(prepared / "data"), "--out", str(tmp_path / "m")]
    assert main([*argv, "--hyperparameters", "enc1_vocab_size=8"]) == 2
    sentence = f"{prepared / 'data/schema'}: in1 has 10 token ids, wanted at most enc1_vocab_size=8"
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("change", ["missing", "empty"])
def test_a_folder_that_is_not_prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str) -> None:
    if change == "empty":
        (tmp_path / "d").mkdir()
    assert main(["train", "--data", str(tmp_path / "d"), "--out", str(tmp_path / "m")]) == 2
    assert "that `object2vec prepare` wrote" in capsys.readouterr().err


def test_extended_data_keep_old_ids_and_embeddings(prepared: Path, tmp_path: Path) -> None:
    """New values are appended, and a model that is trained further starts from the old embeddings."""
    (tmp_path / "new.csv").write_text("u,i,y\n" + "user3,2,1\nanna,2,3\nanna,77,2\nuser3,77,2\n" * 9)
    argv = [str(tmp_path / "new.csv"), "--extend", str(prepared / "model"), "--split", "none"]
    assert main(["prepare", *argv, "--out", str(tmp_path / "data")]) == 0
    old, new = Schema.load(prepared / "model"), Schema.load(tmp_path / "data/schema")
    users = [f"user{n}" for n in range(9)]
    assert new.encode("in0", users).ids.tolist() == old.encode("in0", users).ids.tolist()
    assert new.encode("in0", ["anna"]).ids.tolist() == [old["in0"].vocabulary.size]
    tiny = ["--hyperparameters", "epochs=1", "learning_rate=1e-6", "weight_decay=0", "ema_decay=0"]
    argv = ["train", "--data", str(tmp_path / "data"), "--model", str(prepared / "model"), *tiny]
    assert main([*argv, "--out", str(tmp_path / "model")]) == 0
    before, after = (load_file(folder / "model/model.safetensors") for folder in (prepared, tmp_path))
    for name in before:
        np.testing.assert_allclose(after[name][: len(before[name])], before[name], atol=1e-4)


def test_extend_takes_no_columns(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["prepare", str(prepared / "table.csv"), "--extend", str(prepared / "model"), "--in0", "u"]
    assert main([*argv, "--out", str(tmp_path / "d")]) == 2
    assert "--extend takes the columns, the label and the settings of the model" in capsys.readouterr().err
