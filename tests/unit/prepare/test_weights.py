"""A column of weights: in prepared channels, in the schema of the model, and in training."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

import object2vec
from object2vec.cli import main
from object2vec.errors import UserError
from object2vec.schema.schema import Schema

pytest.importorskip("duckdb")
pd = pytest.importorskip("pandas")

TABLE = pd.DataFrame(
    {
        "user": [f"u{row % 7}" for row in range(60)],
        "film": [f"f{row % 5}" for row in range(60)],
        "likes": [row % 2 for row in range(60)],
        "w": [row % 4 / 2 for row in range(60)],
    }
)
COLUMNS = ["--in0", "user", "--in1", "film", "--label", "likes", "--weight", "w", "--unknown-rate", "0"]
FIT: dict[str, Any] = {"in0": "user", "in1": "film", "label": "likes", "weight": "w", "epochs": 2, "log": "quiet"}


def prepared(table: pd.DataFrame, folder: Path, *argv: str) -> Path:
    table.to_csv(folder / "table.csv", index=False)
    assert main(["prepare", str(folder / "table.csv"), *argv, "--out", str(folder / "data")]) == 0
    return folder / "data"


def records(folder: Path, *names: str) -> list[dict[str, Any]]:
    return [json.loads(line) for name in names for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_channels_have_the_weights_of_their_rows(tmp_path: Path) -> None:
    """Rows without a weight are skipped and counted; the schema names the column."""
    table = TABLE.copy()
    table.loc[:1, "w"] = None
    data = prepared(table, tmp_path, *COLUMNS)
    found = records(data, "train", "validation", "test")
    schema = Schema.load(data / "schema")
    decoded = [schema.decode("in0", [record["in0"]])[0]["user"] for record in found]
    rows = sorted((user, record["label"], record["weight"]) for user, record in zip(decoded, found, strict=True))
    assert rows == sorted(table[["user", "likes", "w"]].dropna().itertuples(index=False, name=None))
    assert json.loads((data / "report.json").read_text())["skipped"]["weight"] == 2
    assert schema.weight == "w"


def test_data_without_weights_have_none(tmp_path: Path) -> None:
    data = prepared(TABLE, tmp_path, *COLUMNS[:6])
    assert "weight" not in records(data, "train")[0]
    assert "weight" not in json.loads((data / "schema" / "schema.json").read_text())


@pytest.mark.parametrize("value", ["-1", "1e31", "much"])
def test_a_weight_that_is_no_number_from_0_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    table = TABLE.astype({"w": str})
    table.loc[3, "w"] = value
    table.to_csv(tmp_path / "table.csv", index=False)
    assert main(["prepare", str(tmp_path / "table.csv"), *COLUMNS, "--out", str(tmp_path / "data")]) == 2
    assert f"w is '{value}', wanted a number from 0" in capsys.readouterr().err


def test_a_model_is_trained_and_extended_with_weights(tmp_path: Path) -> None:
    """`fit` gives the model of the commands, and `prepare --extend` reads the column again."""
    data = prepared(TABLE, tmp_path, *COLUMNS)
    model = str(tmp_path / "model")
    argv = ["--hyperparameters", "epochs=2", "--log", "quiet"]
    assert main(["train", "--data", str(data), "--out", model, *argv]) == 0
    assert object2vec.load(model).schema.weight == "w"
    more = prepared(TABLE, tmp_path, "--extend", model)
    assert {record["weight"] for record in records(more, "train")} == {0, 0.5, 1, 1.5}


def test_weights_of_validation_tables_count(caplog: pytest.LogCaptureFixture) -> None:
    """Pairs of weight 0 change neither training nor validation."""
    zero, rest = TABLE[TABLE.w == 0], TABLE[TABLE.w > 0]
    turned = pd.concat([rest, zero.assign(likes=1 - zero.likes)])
    with caplog.at_level(logging.WARNING):
        one, other = (
            object2vec.fit(TABLE, validation=validation, **FIT, mini_batch_size=1000) for validation in (turned, rest)
        )
    assert [epoch["validation"] for epoch in one.history] == [
        pytest.approx(epoch["validation"]) for epoch in other.history
    ]
    unweighted = object2vec.fit(TABLE, validation=turned, **FIT | {"weight": None}, mini_batch_size=1000)
    assert unweighted.history[0]["validation"] != pytest.approx(one.history[0]["validation"])


def test_token_ids_have_weights_too() -> None:
    """In a table of token ids, the column is called weight, as in a channel."""
    table = {"in0": [1, 2, 3] * 4, "in1": [1, 2] * 6, "label": [1, 0] * 6}
    settings = {"enc0_network": "pooled_embedding", "enc0_max_seq_len": 1, "enc0_vocab_size": 9, "epochs": 1}
    plain, ones, halves = (
        object2vec.fit(table | weights, **settings, log="quiet").history
        for weights in ({}, {"weight": [1.0] * 12}, {"weight": [1.0, 0.5] * 6})
    )
    assert plain == [pytest.approx({"epoch": 0, "train": pytest.approx(ones[0]["train"])})]
    assert halves[0]["train"] != pytest.approx(ones[0]["train"])
    with pytest.raises(UserError, match="weight is 'w', wanted in0 with it; with token ids, the column weight"):
        object2vec.fit(table, weight="w")
