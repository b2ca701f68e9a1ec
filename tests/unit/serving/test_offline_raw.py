"""`predict` on raw values and tables, and bad lines that are skipped."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from object2vec.cli import main
from object2vec.schema.schema import Schema
from object2vec.serving import table_files
from raw_models import film_schema, save_model, text_schema, write_index

pytest.importorskip("duckdb")
pd = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tmp_path_factory.mktemp("model"), film_schema(), output_layer="mean_squared_error"))


TABLE = pd.DataFrame({"user": [1, 2, 99], "film": ["a", "b", "a"], "genres": ["fun|war", "", "war"], "note": ["x"] * 3})
LINES = [{"in0": 1, "in1": {"film": "a", "genres": ["fun", "war"]}}, {"in0": 2, "in1": {"film": "b"}}]


def predict(model: str, source: Path, *options: str) -> list[Any]:
    target = source.with_name("out.jsonl")
    assert main(["predict", "--model", model, "--input", str(source), "--output", str(target), *options]) == 0
    return [json.loads(line) for line in target.read_text().splitlines()]


def test_raw_lines_have_their_values_next_to_the_scores(model: str, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(f"{json.dumps(line)}\n" for line in LINES))
    found = predict(model, source)
    assert [{side: line[side] for side in ("in0", "in1")} for line in found] == LINES
    assert all(list(line) == ["in0", "in1", "scores"] for line in found)


def test_lines_with_top_k_are_answered_from_an_index(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", film_schema())
    write_index(model, "in1", {"film": ["a", "b"], "genres": ["fun", "war"]})
    source = tmp_path / "in.jsonl"
    source.write_text(
        '{"in0": 1, "top_k": 5, "exclude": [{"film": "a", "genres": ["fun"]}]}\n{"in0": [4], "top_k": 5}\n'
    )
    first, second = predict(str(model), source)
    assert [record["film"] for record in first["recommendations"]] == ["b"]
    assert sorted(record["film"] for record in second["recommendations"]) == ["a", "b"]


def test_the_schema_is_read_once(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vocabulary may have millions of lines."""
    source, loaded = tmp_path / "in.jsonl", []
    source.write_text("".join(f"{json.dumps(line)}\n" for line in LINES))
    load = Schema.load
    monkeypatch.setattr(Schema, "load", lambda folder: loaded.append(folder) or load(folder))
    predict(model, source)
    assert len(loaded) == 1


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "tsv", "parquet"])
def test_tables_give_the_scores_of_their_rows(model: str, tmp_path: Path, kind: str) -> None:
    source = tmp_path / f"in.{kind}"
    if kind == "parquet":
        TABLE.to_parquet(source)
    else:
        text = TABLE.to_csv(index=False, sep="\t" if kind == "tsv" else ",").encode()
        source.write_bytes(gzip.compress(text) if kind.endswith("gz") else text)
    found = predict(model, source)
    lines = tmp_path / "lines.jsonl"
    lines.write_text("".join(f"{json.dumps(line)}\n" for line in LINES))
    wanted = predict(model, lines)
    for row, line in zip(found, wanted, strict=False):
        assert row["scores"] == pytest.approx(line["scores"], rel=1e-5)
    assert [str(row["user"]) for row in found] == ["1", "2", "99"]
    assert list(found[0]) == ["user", "film", "genres", "scores"]
    assert found[2]["unknown"] == ["user"]


def test_a_table_with_the_columns_of_one_side_gives_embeddings(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    TABLE[["user"]].to_csv(tmp_path / "in.csv", index=False)
    found = predict(model, tmp_path / "in.csv")
    assert list(found[0]) == ["user", "embeddings"]
    assert "warning: 1 sides have a raw value that was not in training" in capsys.readouterr().err


def test_a_text_of_a_table_gets_the_scores_of_its_classes(tmp_path: Path) -> None:
    """The side without columns needs none."""
    model = str(save_model(tmp_path / "model", text_schema()))
    (tmp_path / "in.csv").write_text("title\nGood\nbad film\n")
    found = predict(model, tmp_path / "in.csv")
    assert [list(row) for row in found] == [["title", "scores"], ["title", "scores", "unknown"]]


@pytest.mark.parametrize("kind", ["application/json", "application/x-npy"])
def test_a_large_table_is_one_document(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(table_files, "CHUNK_ROWS", 2)
    TABLE.to_csv(tmp_path / "in.csv", index=False)
    lines, target = predict(model, tmp_path / "in.csv"), tmp_path / "out"
    arguments = ["predict", "--model", model, "--input", str(tmp_path / "in.csv"), "--output", str(target)]
    assert main([*arguments, "--accept", kind]) == 0
    if kind == "application/json":
        assert json.loads(target.read_text())["predictions"] == lines
    else:
        assert np.load(target).shape == (len(lines), 1)


def test_texts_of_a_large_table_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = str(save_model(tmp_path / "model", text_schema()))
    (tmp_path / "in.csv").write_text("title\n" + "".join(f"{word}\n" for word in ["good", "bad", "good bad"] * 4))
    whole = predict(model, tmp_path / "in.csv")
    monkeypatch.setattr(table_files, "CHUNK_ROWS", 5)
    assert predict(model, tmp_path / "in.csv") == whole
    assert len(whole) == 12


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE[["note"]], "no column of the model, wanted 'user', 'film', 'genres'"),
        (TABLE[["user", "film"]], "there is no column genres"),
    ],
)
def test_a_table_without_the_columns_is_an_error(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], table: Any, message: str
) -> None:
    table.to_csv(tmp_path / "in.csv", index=False)
    arguments = ["predict", "--model", model, "--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_bad_lines_are_skipped_and_written_to_a_file(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [json.dumps({"in0": [user % 8 + 3], "in1": [4]}) for user in range(20)]
    bad = ["{", json.dumps({"in0": {"usr": 1}}), json.dumps({"in0": [999]})]
    source, skipped = tmp_path / "in.jsonl", tmp_path / "bad.jsonl"
    source.write_text("\n".join([bad[0], *good[:10], bad[1], *good[10:], bad[2]]) + "\n")
    found = predict(model, source, "--skip-bad-lines", str(skipped))
    assert skipped.read_text().splitlines() == bad
    assert "warning: 3 lines cannot be answered and are skipped" in capsys.readouterr().err
    source.write_text("\n".join(good) + "\n")
    assert found == predict(model, source)
    assert main(["predict", "--model", model, "--input", str(tmp_path / "in.csv"), "--skip-bad-lines", "x"]) == 2
    assert "wanted JSON Lines as input and output" in capsys.readouterr().err


def test_a_full_disk_under_the_bad_lines_is_an_error(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the option, also if the lines are too many for the buffer of the file."""
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("not JSON\n" * 20_000)
    paths = ["--input", str(source), "--output", str(target), "--skip-bad-lines", "/dev/full"]
    assert main(["predict", "--model", model, *paths]) == 2
    assert "error: --skip-bad-lines /dev/full: No space left on device" in capsys.readouterr().err
    assert not target.exists()
