"""The verb `prepare`: what it writes for tables of all formats, and its errors."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from object2vec.cli import main
from object2vec.prepare import dataset, rows, source, suggest
from object2vec.schema.schema import Schema

pytest.importorskip("duckdb")
pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

HEADER = "user_id,movie_id,rating,time,genres,title"
IDS = ["--in0", "user_id", "--in1", "movie_id"]


def table(count: int = 300, seed: int = 0) -> list[dict[str, Any]]:
    chances = random.Random(seed)
    genres = ["Drama", "War", "Comedy", "Science, Fiction"]
    return [
        {
            "user_id": str(chances.randrange(20)),
            "movie_id": f"m{chances.randrange(30)}",
            "rating": str(chances.randrange(1, 11) / 2),
            "time": str(1_000_000 + row),
            "genres": "|".join(chances.sample(genres, chances.randrange(3))),
            "title": f'The "{chances.choice(genres)}" of Straße {row % 7}',
        }
        for row in range(count)
    ]


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    quoted = [",".join('"' + value.replace('"', '""') + '"' for value in row.values()) for row in rows]
    path.write_text("\n".join([HEADER, *quoted]) + "\n", "utf-8")
    return path


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "ratings.csv", table())


def prepare(*argv: object) -> int:
    return main(["prepare", *map(str, argv)])


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.md5(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()


def decoded(folder: Path, name: str, labels: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Return pairs as sorted raw values."""
    schema = Schema.load(folder / "schema")
    found = read(folder, name)
    sides = [schema.decode(side, [row.get(side, []) for row in found]) for side in ("in0", "in1")]  # type: ignore[arg-type]
    return sorted(
        (*left.values(), *right.values(), row["label"]) for left, right, row in zip(*sides, found, strict=True)
    )


def test_pairs_hold_the_values_of_the_table(csv: Path, tmp_path: Path) -> None:
    """Each row is one pair, once, in one of three splits."""
    assert prepare(csv, *IDS, "--label", "rating", "--unknown-rate", "0", "--out", tmp_path / "data") == 0
    pairs = [pair for name in ("train", "validation", "test") for pair in decoded(tmp_path / "data", name)]
    assert sorted(pairs) == sorted((row["user_id"], row["movie_id"], float(row["rating"])) for row in table())
    assert 10 < len(read(tmp_path / "data", "test")) < 60
    assert json.loads((tmp_path / "data/hyperparameters.json").read_text()) == {
        "recipe": "ratings",
        "enc0_max_seq_len": "1",
        "enc0_vocab_size": "23",
        "enc1_max_seq_len": "1",
        "enc1_vocab_size": "33",
        "output_layer": "mean_squared_error",
        "mini_batch_size": "16",
    }


def test_several_columns_lists_and_text(csv: Path, tmp_path: Path) -> None:
    columns = ["--in0", "user_id", "--in1", "movie_id", "genres:list(|)", "title:text"]
    assert (
        prepare(csv, *columns, "--label", "rating", "--split", "none", "--out", tmp_path / "d", "--unknown-rate=0") == 0
    )
    rows = table()
    schema = Schema.load(tmp_path / "d/schema")
    wanted = schema.encode("in1", [{name: row[name] for name in ("movie_id", "genres", "title")} for row in rows])
    lists = [wanted.ids[a:b].tolist() for a, b in zip(wanted.offsets, wanted.offsets[1:], strict=False)]
    assert sorted(row["in1"] for row in read(tmp_path / "d", "train")) == sorted(lists)
    assert not wanted.unknown


@pytest.mark.parametrize("argv", [["--label", "rating"], ["--positives", "--split", "leave-last-out:time"]])
def test_bytes_do_not_depend_on_threads_memory_and_batches(
    csv: Path, tmp_path: Path, argv: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = ["--in0", "user_id", "--in1", "movie_id", "title:text"]
    assert prepare(csv, *columns, *argv, "--threads", 1, "--memory", "1G", "--out", tmp_path / "one") == 0
    monkeypatch.setattr(source, "BATCH_ROWS", (2, 7))
    monkeypatch.setattr(rows, "CHUNK_BYTES", 500)
    assert prepare(csv, *columns, *argv, "--threads", 3, "--memory", "200M", "--out", tmp_path / "two") == 0
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    assert prepare(csv, *columns, *argv, "--seed", 1, "--out", tmp_path / "other") == 0
    assert digest(tmp_path / "other") != digest(tmp_path / "one")


def test_a_query_does_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    rows = table()
    digests = set()
    for number in range(2):
        random.Random(number).shuffle(rows)
        path = write_csv(tmp_path / "r.csv", rows)
        query = f"select user_id, movie_id, rating::double as rating from '{path}' where rating::double >= 2;"
        assert (
            prepare("--query", query, *IDS, "--label", "rating", "--out", tmp_path / "d", "--threads", number + 1) == 0
        )
        digests.add(digest(tmp_path / "d"))
    assert len(digests) == 1


@pytest.mark.parametrize("kind", ["tsv", "csv.gz", "jsonl", "parquet", "folder", "pattern", "json.gz"])
def test_formats_give_the_same_pairs(csv: Path, tmp_path: Path, kind: str) -> None:
    rows = table()
    path: object = tmp_path / f"t.{kind}"
    text = csv.read_text("utf-8")
    if kind == "tsv":
        Path(str(path)).write_text(
            "\n".join("\t".join(row.values()) for row in [dict(zip(rows[0], rows[0], strict=True)), *rows])
        )
    elif kind == "csv.gz":
        Path(str(path)).write_bytes(gzip.compress(text.encode()))
    elif kind == "jsonl":
        Path(str(path)).write_text("\n".join(json.dumps(row) for row in rows))
    elif kind == "json.gz":
        Path(str(path)).write_bytes(gzip.compress(json.dumps(rows).encode()))
    elif kind == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        folder = tmp_path / "parts"
        folder.mkdir()
        (folder / "_SUCCESS").touch()
        for part in range(3):
            write_csv(folder / f"part-{part}.csv", rows[100 * part : 100 * part + 100])
        path = folder if kind == "folder" else folder / "part-*.csv"
    argv = ["--in0", "user_id", "--in1", "movie_id", "--label", "rating", "--out"]
    assert prepare(csv, *argv, tmp_path / "a") == 0
    assert prepare(path, *argv, tmp_path / "b") == 0
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_leave_last_out(csv: Path, tmp_path: Path) -> None:
    argv = ["--positives", "--split", "leave-last-out:time", "--unknown-rate", "0"]
    assert prepare(csv, *IDS, *argv, "--out", tmp_path / "d") == 0
    by_user: dict[str, list[str]] = {}
    for row in table():
        by_user.setdefault(row["user_id"], []).append(row["movie_id"])
    for name, place in (("test", -1), ("validation", -2)):
        assert decoded(tmp_path / "d", name) == sorted((user, films[place], 1) for user, films in by_user.items())
    assert json.loads((tmp_path / "d/hyperparameters.json").read_text())["recipe"] == "implicit"


def test_split_by_time_and_by_group(csv: Path, tmp_path: Path) -> None:
    rows = table()
    assert prepare(csv, *IDS, "--label=rating", "--split=time:time", "--unknown-rate=0", "--out", tmp_path / "t") == 0
    wanted = sorted((row["user_id"], row["movie_id"], float(row["rating"])) for row in rows[270:])
    assert decoded(tmp_path / "t", "test") == wanted
    assert len(read(tmp_path / "t", "validation")) == 30
    assert (
        prepare(csv, *IDS, "--label=rating", "--split=group:user_id", "--unknown-rate=0", "--out", tmp_path / "g") == 0
    )
    schema = Schema.load(tmp_path / "g/schema")
    users = {row["in0"][0] for row in read(tmp_path / "g", "train")}
    assert 2 not in users
    assert users == set(range(3, schema["in0"].vocabulary.size))
    others = [
        row["in0"]
        for name in ("validation", "test")
        if (tmp_path / f"g/{name}.jsonl").exists()
        for row in read(tmp_path / "g", name)
    ]
    assert others
    assert all(row == [2] for row in others)


def test_classes_and_several_labels(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("title,genres\nA film,Drama|War\nfilm b,War\nnone,\nc,Comedy\n")
    argv = ["--in0", "title:text", "--split", "none", "--unknown-rate", "0", "--out", tmp_path / "d"]
    assert prepare(path, *argv, "--label", "genres:class(|)") == 0
    assert decoded(tmp_path / "d", "train") == [("a film", 1), ("a film", 2), ("c", 0), ("film b", 2)]
    assert json.loads((tmp_path / "d/schema/schema.json").read_text())["label"]["classes"] == ["Comedy", "Drama", "War"]
    hyperparameters = json.loads((tmp_path / "d/hyperparameters.json").read_text())
    assert (hyperparameters["recipe"], hyperparameters["num_classes"]) == ("text-classification", "3")
    assert hyperparameters["enc1_network"] == "none"


@pytest.mark.parametrize(
    ("argv", "recipe"),
    [
        (["--in1", "movie_id", "--positives"], "implicit"),
        (["--in1", "movie_id", "genres:list(|)", "--positives"], "implicit"),
        (["--in1", "genres:list(|)", "title:text", "--positives"], "cold-start"),
        (["--in1", "movie_id", "--positives", "--tied"], "item2vec"),
        (["--in0", "genres:list(|)", "--in1", "movie_id", "--positives", "--tied"], "history"),
        (["--in0", "genres:list(|)", "--in1", "movie_id", "--positives"], "history"),
        (["--in1", "movie_id", "--label", "rating"], "ratings"),
        (["--in1", "title:text", "--label", "rating:class"], "text-classification"),
        (["--in0", "title:text", "--in1", "title:text", "--label", "rating"], "sentence-similarity"),
        (["--in1", "movie_id", "--label", "rating", "--recipe", "implicit"], "implicit"),
    ],
)
def test_suggested_recipe(csv: Path, tmp_path: Path, argv: list[str], recipe: str) -> None:
    assert prepare(csv, "--in0", "user_id", *argv, "--out", tmp_path / "d") == 0
    assert json.loads((tmp_path / "d/hyperparameters.json").read_text())["recipe"] == recipe


def test_large_data_get_larger_batches_and_sparse_updates(
    csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few steps, and no step over all rows of a large vocabulary. What a recipe sets in excess stays."""

    def hyperparameters(*argv: str) -> dict[str, str]:
        assert prepare(csv, *argv, "--label", "rating", "--split", "none", "--out", tmp_path / "d") == 0
        found: dict[str, str] = json.loads((tmp_path / "d/hyperparameters.json").read_text())
        return found

    text = ["--in0", "title:text", "--recipe", "text-classification"]
    assert hyperparameters(*text)["mini_batch_size"] == "16"
    assert "token_embedding_storage_type" not in hyperparameters(*text)
    monkeypatch.setattr(suggest, "MAX_STEPS", 3)
    monkeypatch.setattr(suggest, "MIN_STEPS", 1)
    monkeypatch.setattr(suggest, "LARGE_VOCABULARY", 10)
    assert hyperparameters(*text)["mini_batch_size"] == "100"
    monkeypatch.setattr(suggest, "MAX_BATCH_SIZE", 90)
    assert hyperparameters(*text)["mini_batch_size"] == "90"
    found = hyperparameters(*IDS)
    assert found["mini_batch_size"] == "300"  # 512 of the recipe are more than there are
    assert found["token_embedding_storage_type"] == "row_sparse"
    assert found["ema_decay"] == "0"


def test_labels_of_0_and_1_are_classes(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,y\n1,2,0\n1,3,1\n")
    assert (
        prepare(path, "--in0", "a:text", "--in1", "b:text", "--label", "y", "--split", "none", "--out", tmp_path / "d")
        == 0
    )
    hyperparameters = json.loads((tmp_path / "d/hyperparameters.json").read_text())
    assert hyperparameters["recipe"] == "entailment"
    assert hyperparameters["tied_token_embedding_weight"] == "True"


def test_values_in_training_become_unknown(csv: Path, tmp_path: Path) -> None:
    """About the given share of them, so that the model learns the unknown ids."""
    assert prepare(csv, *IDS, "--label", "rating", "--unknown-rate", "0.2", "--out", tmp_path / "d") == 0
    found = read(tmp_path / "d", "train")
    assert 0.1 < sum(row["in0"] == [2] for row in found) / len(found) < 0.3


def test_a_label_with_one_class_is_warned_about(
    csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Training on the pairs warns too."""
    write_csv(csv, [{**row, "rating": "good"} for row in table()])
    assert prepare(csv, "--in0", "title:text", "--label", "rating", "--out", tmp_path / "d") == 0
    assert caplog.messages == ["column rating: all rows have the label 'good', wanted at least two different labels"]
    argv = ["train", "--data", str(tmp_path / "d"), "--out", str(tmp_path / "m"), "--log", "sagemaker"]
    assert main([*argv, "--hyperparameters", "epochs=1"]) == 0
    warning = "Channel train: all pairs have the label 0, wanted at least two different labels"
    assert capsys.readouterr().out.count(warning) == 1


def test_report(csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts, lengths, labels, duplicates and pairs of test that are in training."""
    write_csv(csv, [*table(), *table(), {**table()[0], "user_id": ""}, {**table()[0], "rating": ""}])
    argv = ["--in0", "user_id", "--in1", "title:text", "--label", "rating", "--max-tokens", "3", "--out"]
    assert prepare(csv, *argv, tmp_path / "d") == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "d/report.json").read_text())
    assert sum(split["rows"] for split in report["splits"].values()) == 600
    assert report["skipped"] == {"label": 1, "in0": 1, "in1": 0}
    assert report["truncated"]["in1"] == 602
    assert report["splits"]["train"]["lengths"] == {"in0": [1, 1, 1, 1], "in1": [3, 3, 3, 3]}
    assert report["duplicates"] >= 0.5
    assert report["also in train"]["test"] > 0.5
    assert "skipped: 1 rows without label" in printed
    assert f"duplicates: {report['duplicates']:.1%} of pairs repeat an earlier pair" in printed
    assert f"next: object2vec train --data {tmp_path / 'd'} --out model" in printed


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "prepare needs tables or --query, and not both"),
        (["x.csv", "--query", "select 1"], "prepare needs tables or --query, and not both"),
        (["{csv}"], "prepare needs --in0, and --label or --positives; or --extend with a model that has them"),
        (["{csv}", "--in0", "user", "--positives"], "{csv}: there is no column user, the nearest is user_id"),
        (["{csv}", "--in0", "title:text", "--label", "movie_id:number"], "{csv}: movie_id is 'm"),
        (["{csv}", "--in0", "user_id", "--label", "y", "--split", "x"], "split 'x': wanted one of random, time:COLUMN"),
        (
            ["{csv}", "--in0", "user_id", "--positives", "--split", "time:title"],
            "{csv}: title holds a value that is not a time",
        ),
        (["{csv}", "--in0", "a:b:text(x=1)", "--positives"], "column 'a:b:text(x=1)': no option x"),
        (
            ["{csv}", "--in0", "user_id", "--positives", "--max-tokens", "0"],
            "--max-tokens is 0, wanted a number from 1",
        ),
        (["{csv}", "--in0", "user_id", "--positives", "--seed", "-1"], "--seed is -1, wanted a number from 0"),
        (
            ["{csv}", "--in0", "title:text", "--positives", "--split", "leave-last-out:time"],
            "leave-last-out groups by the first column of in0, wanted one value that is not hashed",
        ),
        (["missing.csv", "--in0", "a", "--positives"], "missing.csv: No such file or directory, wanted a table"),
        (
            ["{csv}.xlsx", "--in0", "a", "--positives"],
            "{csv}.xlsx: wanted a file that ends in .csv, .txt, .tsv, .jsonl",
        ),
        (["{csv}.empty.csv", "--in0", "a", "--positives"], "{csv}.empty.csv: empty, wanted a table"),
        (["--query", "selekt 1", "--in0", "a", "--positives"], "--query: syntax error at or near"),
        (["--query", "select * from 'no.csv'", "--in0", "a", "--positives"], "--query: "),
    ],
)
def test_errors(csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], sentence: str) -> None:
    """One sentence, and nothing is written."""
    Path(f"{csv}.xlsx").write_text("x")
    Path(f"{csv}.empty.csv").touch()
    assert prepare(*(word.format(csv=csv) for word in argv), "--out", tmp_path / "d") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"object2vec: error: {sentence.format(csv=csv)}")
    assert error.count("\n") == 1
    assert not (tmp_path / "d").exists()


def test_json_of_several_types_has_the_values_of_python(tmp_path: Path) -> None:
    """duckdb gives such columns as texts of JSON."""
    rows = [{"a": ["x", 1], "b": "v", "y": row % 3} for row in range(40)]
    rows[3] |= {"b": 7}
    rows[4] |= {"a": ["x", None], "b": 7.0}
    (tmp_path / "mixed.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    columns = ["--in0", "a:list", "--in1", "b", "--label", "y:number", "--split", "none"]
    assert prepare(tmp_path / "mixed.jsonl", *columns, "--out", tmp_path / "d") == 0
    assert list(Schema.load(tmp_path / "d/schema")["in0"].vocabulary.ids[0]) == ["x", "1"]
    assert list(Schema.load(tmp_path / "d/schema")["in1"].vocabulary.ids[0]) == ["v", "7"]


def test_a_label_that_float32_cannot_hold_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "huge.csv").write_text("a,y\nx,1\ny,1e39\n")
    assert prepare(tmp_path / "huge.csv", "--in0", "a", "--label", "y:number", "--out", tmp_path / "d") == 2
    assert "y is '1e39', wanted a number" in capsys.readouterr().err


def test_an_object_as_a_value_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"a": "x", "y": 1}, {"a": {"k": 1}, "y": 2}]
    (tmp_path / "objects.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert prepare(tmp_path / "objects.jsonl", "--in0", "a", "--label", "y", "--out", tmp_path / "d") == 2
    assert "a[1] is the object {'k': 1}, wanted a string, a number or null" in capsys.readouterr().err


def test_a_damaged_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n1,2,3,4\n" * 3)
    assert prepare(path, "--in0", "a", "--in1", "b", "--positives", "--out", tmp_path / "d") == 2
    assert capsys.readouterr().err.startswith(f"object2vec: error: {path}: ")


def test_interruption_leaves_the_old_data(csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = [csv, *IDS, "--label", "rating", "--out", tmp_path / "d"]
    assert prepare(*argv) == 0
    before = digest(tmp_path / "d")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("object2vec.prepare.write.suggest_hyperparameters", interrupt)
    assert prepare(*argv, "--seed", 1) == 130
    assert digest(tmp_path / "d") == before
    assert prepare(*argv, "--split", "none") == 130


@pytest.mark.parametrize("step", ["reading", "writing"])
def test_interruption_while_rows_are_read_or_written(
    csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Nothing is left, and no temporary file stays open."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    target = "dataset.Dataset._append" if step == "reading" else "write.to_json_lines"
    monkeypatch.setattr(f"object2vec.prepare.{target}", interrupt)
    assert prepare(csv, *IDS, "--label", "rating", "--out", tmp_path / "d") == 130
    assert not (tmp_path / "d").exists() or not list((tmp_path / "d").iterdir())


def test_progress_without_a_terminal_is_lines(
    csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some seconds apart, so a short run has none."""
    argv = [csv, *IDS, "--label", "rating", "--out", tmp_path / "d"]
    assert prepare(*argv) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("object2vec.prepare.command.LINE_SECONDS", 0.0)
    assert prepare(*argv) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == lines[-1].replace("writing", "reading").replace(" of 300", "") == "reading: 300 rows"


def test_utf_16_is_refused(csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, encoding in (("a.csv", "utf-16"), ("a.tsv", "utf-16-be"), ("a.jsonl", "utf-16-le")):
        path = tmp_path / name
        path.write_text(csv.read_text("utf-8"), encoding)
        assert prepare(path, *IDS, "--label", "rating", "--out", tmp_path / "d") == 2
        assert capsys.readouterr().err == f"object2vec: error: {path}: UTF-16 text; save it as UTF-8\n"


def test_files_of_an_older_data_set_are_removed(csv: Path, tmp_path: Path) -> None:
    argv = [csv, *IDS, "--label", "rating", "--out", tmp_path / "d"]
    assert prepare(*argv) == 0
    assert prepare(*argv, "--split", "none") == 0
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == [
        "hyperparameters.json",
        "report.json",
        "schema",
        "train.jsonl",
    ]


def test_missing_package_is_named(
    csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    assert prepare(csv, *IDS, "--label", "rating", "--out", tmp_path / "d") == 2
    assert "tables need duckdb, which is not installed: pip install 'object2vec[tables]'" in capsys.readouterr().err


def test_too_many_labels(
    csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "MAX_LABELS", 9)
    assert prepare(csv, *IDS, "--label", "rating", "--out", tmp_path / "d") == 2
    assert "rating has more than 9 different values; are they rating:number?" in capsys.readouterr().err
    assert prepare(csv, *IDS, "--label", "rating:number", "--out", tmp_path / "d") == 0
