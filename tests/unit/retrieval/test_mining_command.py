"""The verb `mine`, through `main(argv)`: the data set that it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from object2vec.cli import main

pytest.importorskip("duckdb")
SMALL = ["epochs=1", "enc0_token_embedding_dim=4", "enc1_token_embedding_dim=4"]
COPIED = ("validation.jsonl", "test.jsonl", "hyperparameters.json", "schema/schema.json", "schema/in1.vocabulary.tsv")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with prepared positives and a model of them."""
    folder = tmp_path_factory.mktemp("made")
    rows = "".join(f"{n % 10},{n * 7 % 31}\n" for n in range(0, 400, 3))
    (folder / "t.csv").write_text(f"u,i\n{rows}")
    prepare = ["prepare", str(folder / "t.csv"), "--in0", "u", "--in1", "i", "--unknown-rate", "0"]
    assert main([*prepare, "--positives", "--out", str(folder / "data")]) == 0
    train = ["train", "--data", str(folder / "data"), "--log", "quiet", "--hyperparameters", *SMALL]
    assert main([*train, "--out", str(folder / "model")]) == 0
    return folder


def mine(folder: Path, *more: str, data: str = "data", model: str = "model", out: str = "mined") -> int:
    paths = {"--model": model, "--data": data, "--out": out}
    return main(["mine", *(word for name, path in paths.items() for word in (name, str(folder / path))), *more])


def rows_of(path: Path) -> list[tuple[int, int, int]]:
    lines = map(json.loads, path.read_text().splitlines())
    return [(line["in0"][0], line["in1"][0], line["label"]) for line in lines]


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    line = capsys.readouterr().err
    assert line.startswith("object2vec: error: ")
    assert line.count("\n") == 1
    return line.removeprefix("object2vec: error: ").rstrip("\n")


def test_the_data_set_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "data" / "train.jsonl").read_bytes()
    assert mine(folder, out="data") == 2
    assert error_of(capsys) == f"--out {folder}/data: this is --data, wanted another folder"
    assert (folder / "data" / "train.jsonl").read_bytes() == before


def test_data_set_with_negatives_trains(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The positives stay, the negatives are new pairs, and the rest of the data set is copied."""
    assert mine(folder, "--per-pair", "2", "--skip", "1", "--top", "9") == 0
    before, after = (rows_of(folder / name / "train.jsonl") for name in ("data", "mined"))
    assert sorted(row for row in after if row[2] == 1) == sorted(before)
    negatives = [(user, item) for user, item, label in after if label == 0]
    assert negatives
    assert len(set(negatives)) == len(negatives)
    assert not set(negatives) & {(user, item) for user, item, _ in before}
    for name in COPIED:
        assert (folder / "mined" / name).read_bytes() == (folder / "data" / name).read_bytes()
    printed = capsys.readouterr().out
    assert f"{len(before)} positive pairs, {len(negatives)} mined negatives\n" in printed
    words = printed.splitlines()[-1].rpartition("object2vec ")[2].split()
    assert main([*words[:-1], str(folder / "again"), "--log", "quiet", "--hyperparameters", *SMALL]) == 0


def test_no_negatives_give_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert mine(folder, "--skip", "1000", "--top", "1001", out="empty") == 0
    assert "there are no negatives: no in0 has an unpaired object in the ranks from 1001 to 1001" in caplog.text


def test_same_seed_gives_the_same_files(folder: Path) -> None:
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert mine(folder, "--seed", seed, "--skip", "1", "--top", "20", out=out) == 0
    files = [(folder / out / "train.jsonl").read_bytes() for out in "abc"]
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("skip", "skip is 9 and top is 9, wanted a top above skip"),
        ("seed", "--seed is -1, wanted a number from 0 to 2147483647"),
        ("ids", "{}/model has other token ids than {}/other, wanted a model that was trained on it"),
        ("train", "{}/other has no pairs for training, wanted train.jsonl"),
        ("labels", "a label is 3, wanted pairs with the labels 0 and 1 to mine for"),
    ],
)
def test_refused_data(folder: Path, change: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An error leaves no folder."""
    assert mine(folder, "--skip", "1", out="other") == 0
    more, data, train = [], "other", folder / "other/train.jsonl"
    if change == "skip":
        more = ["--skip", "9", "--top", "9"]
    elif change == "seed":
        more = ["--seed", "-1"]
    elif change == "ids":
        path = folder / "other/schema/in1.vocabulary.tsv"
        path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    elif change == "train":
        train.unlink()
    else:
        train.write_text(train.read_text().replace('"label":1', '"label":3'))
    capsys.readouterr()
    assert mine(folder, *more, data=data, out="none") == 2
    assert error_of(capsys) == sentence.format(folder, folder)
    assert not (folder / "none").exists()
