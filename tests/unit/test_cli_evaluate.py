"""The verb `evaluate`: what it prints and writes, and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from object2vec import artifact
from object2vec.cli import main
from small import configured, network_of, write_pairs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model, and channels as `prepare` writes them."""
    hyperparameters = configured()
    artifact.save(tmp_path / "model", network_of(hyperparameters), hyperparameters, training={}, vocabularies={})
    for name, rows in (("train", [([1], [2], 1), ([3], [4], 0)]), ("test", [([1], [4], 1), ([3], [2], 0)])):
        write_pairs(tmp_path / "data" / f"{name}.jsonl", rows)
    return tmp_path


def evaluate(folder: Path, *options: str, data: str = "data") -> int:
    return main(["evaluate", "--model", str(folder / "model"), "--data", str(folder / data), *options])


def test_metrics_are_printed_and_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = ["--json", str(folder / "out" / "m.json"), "--html", str(folder / "out" / "m.html")]
    assert evaluate(folder, *outputs) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("2 pairs, classification, 2 classes\n")
    assert "ranking of 2 in1 for each of 1 in0" in printed
    document = json.loads((folder / "out" / "m.json").read_text())
    assert list(document["metrics"]) == ["model", "class frequencies"]
    assert (folder / "out" / "m.html").read_text().startswith("<!DOCTYPE html>")
    assert [path.name for path in sorted((folder / "out").iterdir())] == ["m.html", "m.json"]


def test_training_pairs_can_be_another_path(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test, train = "data/test.jsonl", str(folder / "data" / "train.jsonl")
    assert evaluate(folder, data=test) == 0
    assert "class frequencies" not in capsys.readouterr().out
    assert evaluate(folder, "--train", train, data=test) == 0
    assert "class frequencies" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "data", "message"),
    [
        ([], "nothing", "nothing: No such file or directory"),
        (["--html", "/dev/null/x/y.html"], "data", "wanted a file that can be written"),
    ],
)
def test_errors_are_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], data: str, message: str
) -> None:
    assert evaluate(folder, *options, data=data) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_id_that_the_model_does_not_know_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pairs(folder / "bad.jsonl", [([1], [2], 1), ([1], [99], 1)])
    assert evaluate(folder, data="bad.jsonl") == 2
    assert 'bad.jsonl, line 2: Inconsistent vocab for in1 found. Vocab id "99"' in capsys.readouterr().err
