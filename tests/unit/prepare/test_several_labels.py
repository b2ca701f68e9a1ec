"""Tables with several labels a row, and with one side: from the table to predicted labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import object2vec
from object2vec.cli import main
from object2vec.schema.schema import Schema

pytest.importorskip("duckdb")
pd = pytest.importorskip("pandas")

WORDS = {"red": "color", "blue": "color", "dog": "animal", "cat": "animal", "big": "size"}
TABLE = pd.DataFrame(
    [
        {"text": f"{a} {b}", "tags": "|".join(sorted({WORDS[a], WORDS[b]})), "first": WORDS[a]}
        for a in WORDS
        for b in WORDS
        for _ in range(4)
    ]
)
SETTINGS = ["--hyperparameters", "epochs=60", "dropout=0", "--log", "quiet"]


def prepared(folder: Path, label: str, *argv: str) -> Path:
    TABLE.to_csv(folder / "table.csv", index=False)
    columns = ["--in0", "text:text", "--label", label, *argv]
    assert main(["prepare", str(folder / "table.csv"), *columns, "--out", str(folder / "data")]) == 0
    return folder / "data"


def records(data: Path, *names: str) -> list[dict[str, Any]]:
    return [json.loads(line) for name in names for line in (data / f"{name}.jsonl").read_text().splitlines()]


def settings(data: Path) -> dict[str, Any]:
    return json.loads((data / "hyperparameters.json").read_text())


def test_a_set_of_labels_is_one_record(tmp_path: Path) -> None:
    """`classes` keeps a row together; the schema has the names, and in1 is absent."""
    data = prepared(tmp_path, "tags:classes(|)", "--unknown-rate", "0")
    found = records(data, "train", "validation", "test")
    schema = Schema.load(data / "schema")
    names = schema.label.classes
    texts = [text["text"] for text in schema.decode("in0", [record["in0"] for record in found])]
    rows = sorted(
        (text, "|".join(names[c] for c in record["label"])) for text, record in zip(texts, found, strict=True)
    )
    assert rows == sorted(TABLE[["text", "tags"]].itertuples(index=False, name=None))
    assert all(record.keys() == {"in0", "label"} for record in found)
    given = settings(data)
    assert (given["output_layer"], given["num_classes"], given["enc1_network"]) == ("sigmoid", "3", "none")
    assert "enc1_vocab_size" not in given
    report = json.loads((data / "report.json").read_text())
    assert (
        sum(sum(split["labels"].values()) for split in report["splits"].values())
        == TABLE.tags.str.split("|").map(len).sum()
    )


def test_class_of_a_row_with_several_is_still_a_pair_each(tmp_path: Path) -> None:
    data = prepared(tmp_path, "tags:class(|)")
    assert settings(data)["output_layer"] == "softmax"
    assert len(records(data, "train", "validation", "test")) == TABLE.tags.str.split("|").map(len).sum()


def test_lists_and_text_give_the_same_records(tmp_path: Path) -> None:
    data = prepared(tmp_path, "tags:classes(|)")
    wanted = [(data / f"{name}.jsonl").read_bytes() for name in ("train", "test")]
    TABLE.assign(tags=TABLE.tags.str.split("|")).to_parquet(tmp_path / "t.parquet")
    argv = ["--in0", "text:text", "--label", "tags:classes", "--out", str(tmp_path / "other")]
    assert main(["prepare", str(tmp_path / "t.parquet"), *argv]) == 0
    assert [(tmp_path / "other" / f"{name}.jsonl").read_bytes() for name in ("train", "test")] == wanted


def test_a_set_is_learned_and_recommended(tmp_path: Path) -> None:
    """Probabilities are calibrated on validation, and labels are predicted from a threshold."""
    data = prepared(tmp_path, "tags:classes(|)")
    assert main(["train", "--data", str(data), "--out", str(tmp_path / "model"), *SETTINGS]) == 0
    model = object2vec.load(tmp_path / "model")
    found = {row["tags"]: row for row in model.recommend("blue cat", 3)}
    assert {name for name, row in found.items() if row["predicted"]} == {"color", "animal"}
    assert found["size"]["probability"] < 0.5 < found["color"]["probability"]
    assert model.score(["blue cat", "big"]).shape == (2, 3)
    np.testing.assert_allclose(model.score(["big"]), model.score(pd.DataFrame({"text": ["big"]})), atol=1e-6)


def test_fit_takes_sets_and_validation_tables() -> None:
    given = {"label": "tags:classes(|)", "epochs": 2, "log": "quiet"}
    found = object2vec.fit(TABLE, "text:text", validation=TABLE[:20], **given)
    assert found.hyperparameters.sigmoid
    assert found.history[0]["validation"]["cross_entropy"] > 0


def test_one_side_needs_no_second_encoder(tmp_path: Path) -> None:
    """A single class of a text, and an extension of the model with the same columns."""
    data = prepared(tmp_path, "first")
    assert set(records(data, "train")[0]) == {"in0", "label"}
    model = str(tmp_path / "model")
    assert main(["train", "--data", str(data), "--out", model, *SETTINGS]) == 0
    assert object2vec.load(model).hyperparameters.one_sided
    argv = ["prepare", str(tmp_path / "table.csv"), "--extend", model, "--out", str(tmp_path / "more")]
    assert main(argv) == 0
    assert set(records(tmp_path / "more", "train")[0]) == {"in0", "label"}
    assert main(["train", "--data", str(tmp_path / "more"), "--model", model, "--out", model, *SETTINGS]) == 0
    assert main(["evaluate", "--model", model, "--data", str(tmp_path / "more")]) == 0


def test_many_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """More classes than the built-in has, if the kind is written."""
    table = pd.DataFrame({"text": [f"w{n % 300}" for n in range(600)], "y": [f"c{n % 300}" for n in range(600)]})
    table.to_csv(tmp_path / "t.csv", index=False)
    argv = ["prepare", str(tmp_path / "t.csv"), "--in0", "text:text", "--out", str(tmp_path / "d")]
    assert main([*argv, "--label", "y"]) == 2
    assert "y has 300 different values, wanted at most 30 classes; use it as --in1" in capsys.readouterr().err
    assert main([*argv, "--label", "y:class"]) == 0
    assert settings(tmp_path / "d")["num_classes"] == "300"
