"""Pretrained embeddings of a data set that `prepare` made: its schema is the vocabulary."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from object2vec import artifact
from object2vec.cli import main
from object2vec.schema.schema import Schema

VECTORS = np.arange(1, 9, dtype=np.float32).reshape(2, 4)
FILE = "enc0_pretrained_embedding_file"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Prepare titles with the words red and w0 to w6, and an id that is a word too."""
    rows = [json.dumps({"title": f"Red w{row % 7}", "id": "red", "label": row % 2}) for row in range(60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    columns = ["--in0", "title:text", "id", "--label", "label"]
    out = ["--split", "none", "--unknown-rate", "0", "--out", str(tmp_path / "data")]
    assert main(["prepare", str(tmp_path / "rows.jsonl"), *columns, *out]) == 0
    return tmp_path / "data"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Write the same two vectors in three forms."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "vocab.txt").write_text("red\nw1\n")
    (folder / "v.text").write_text("red 1 2 3 4\nw1 5 6 7 8\n")
    np.save(folder / "v.npy", VECTORS)
    save_file({"embeddings": torch.from_numpy(VECTORS).half(), "bias": torch.zeros(3)}, folder / "v.safetensors")
    return folder


def train(data: Path, files: Path, *hyperparameters: str) -> int:
    base = ["enc0_token_embedding_dim=4", "epochs=1", "token_embedding_storage_type=row_sparse", *hyperparameters]
    paths = ["--data", str(data), "--auxiliary", str(files), "--out", str(data.parent / "model")]
    return main(["train", *paths, "--resume", "--log", "sagemaker", "--hyperparameters", *base])


@pytest.mark.parametrize("name", ["v.text", "v.npy", "v.safetensors"])
def test_words_of_the_schema_have_their_vectors(
    data: Path, files: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Words of the text have their vectors in the model; a value of another column does not have one."""
    assert train(data, files, f"{FILE}={name}") == 0
    assert "enc0: 2 of 8 words have a vector" in "".join(capfd.readouterr())
    _, network = artifact.load(data.parent / "model")
    table = network.enc0.embedding.weight.detach()
    title, identity = Schema.load(data.parent / "model").sides[0].vocabulary.ids
    assert table[[title["red"], title["w1"]]].tolist() == VECTORS.tolist()
    assert table[identity["red"]].abs().max() < 0.5


def test_vectors_train_with_a_factor_and_resume(data: Path, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A job continues with its own factor and the same words; other words or another factor are refused."""
    values = [f"{FILE}=v.npy", "enc0_freeze_pretrained_embedding=False", "pretrained_learning_rate_factor=0.0001"]
    assert train(data, files, *values) == 0
    assert train(data, files, *values, "epochs=2") == 0
    _, network = artifact.load(data.parent / "model")
    row = network.enc0.embedding.weight[Schema.load(data / "schema").sides[0].vocabulary.ids[0]["w1"]]
    moved = (row.detach() - torch.from_numpy(VECTORS[1])).abs().max()
    assert 0 < moved < 1e-4
    assert train(data, files, *values[:2], "epochs=2") == 2
    assert "pretrained_learning_rate_factor" in capsys.readouterr().err
    (files / "vocab.txt").write_text("w1\nred\n")
    assert train(data, files, *values, "epochs=2") == 2
    assert "vocab.txt" in capsys.readouterr().err
