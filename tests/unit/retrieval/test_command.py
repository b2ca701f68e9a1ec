"""The verbs index, neighbors, recommend and embed: what they print and write, and their errors."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import object2vec
from object2vec.cli import main
from object2vec.retrieval import command
from object2vec.schema.columns import Token
from raw_models import save_model, schema_of

FILMS = "film,title,genres\n1,One,fun|war\n2,Two,fun\n3,Three,war\n4,Four,\n"


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a table of films, and a model with an index of them."""
    folder = tmp_path_factory.mktemp("indexed")
    (folder / "films.csv").write_text(FILMS)
    names = {str(number): 1 for number in range(1, 5)}
    schema = schema_of(((Token("user"),), [names]), ((Token("film"),), [names]))
    model = save_model(folder / "model", schema, output_layer="mean_squared_error")
    assert main(["index", "--model", str(model), "--objects", str(folder / "films.csv")]) == 0
    return folder


def run(verb: str, folder: Path, *words: str | Path) -> int:
    return main([verb, "--model", str(folder / "model"), *map(str, words)])


def test_index_says_what_it_made(indexed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(indexed / "model", tmp_path / "model")
    assert run("index", tmp_path, "--objects", indexed / "films.csv") == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == "in1: 4 objects with film, title, genres"
    assert last == f"next: object2vec neighbors --model {tmp_path / 'model'} --side in1 OBJECT"


def test_objects_of_the_command_line_give_text(indexed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A value, JSON, or a list of token ids; several objects have titles."""
    assert run("recommend", indexed, "2", '{"user": 3}', "-k", "2", "--where", "genres like '%war%'") == 0
    first, second = capsys.readouterr().out.split("\n\n")
    title, header, *rows = first.splitlines()
    assert (title, header.split()) == ("2", ["score", "film", "title", "genres"])
    assert {row.split()[1] for row in rows} == {"1", "3"}
    assert second.startswith('{"user": 3}\n')
    assert run("neighbors", indexed, "--side", "in1", "4", "-k", "1") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_files_are_answered_by_their_suffix(indexed: Path, tmp_path: Path, kind: str) -> None:
    """The answers of all forms of input and output are the same."""
    (tmp_path / "q.jsonl").write_text('2\n{"user": 3}\n\n{"in0": 2}\n')
    assert (
        run("recommend", indexed, "--input", tmp_path / "q.jsonl", "-k", "3", "--output", tmp_path / f"o.{kind}") == 0
    )
    wanted = object2vec.load(indexed / "model").recommend([2, 3, 2], k=3)
    if kind == "jsonl":
        lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
        assert [line["query"] for line in lines] == [{"user": 2}, {"user": 3}, {"user": 2}]
        found = [[film["title"] for film in line["recommendations"]] for line in lines]
    else:
        read = pd.read_csv if kind == "csv" else pd.read_parquet
        table = read(tmp_path / f"o.{kind}")
        assert table["user"].tolist() == [2] * 3 + [3] * 3 + [2] * 3
        found = table["title"].to_numpy().reshape(3, 3).tolist()
    assert found == [[film["title"] for film in films] for films in wanted]


def test_pairs_that_were_seen_are_excluded(indexed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "seen.csv").write_text("user,film,rating\n2,1,5\n2,3,4\n1,2,3\n")
    assert run("recommend", indexed, "2", "--exclude", tmp_path / "seen.csv", "--output", "-") == 0
    films = json.loads(capsys.readouterr().out)["recommendations"]
    assert {film["film"] for film in films} == {2, 4}
    (tmp_path / "allowed.csv").write_text("film\n4\n")
    assert run("recommend", indexed, "2", "--allowed", tmp_path / "allowed.csv", "--output", "-") == 0
    assert [film["film"] for film in json.loads(capsys.readouterr().out)["recommendations"]] == [4]


@pytest.mark.parametrize(
    "verb, words, sentence",
    [
        ("neighbors", [], "wanted objects or --input, and not both"),
        ("neighbors", ["1", "--input", "films.csv"], "wanted objects or --input, and not both"),
        ("neighbors", ["{1"], "{1: not JSON"),
        ("neighbors", ["1", "-k", "0"], "k is 0, wanted an integer from 1"),
        ("neighbors", ["1", "--side", "in0"], "no index of in0; build one with `object2vec index`"),
        ("recommend", ["1", "--where", "x"], "condition 'x': there is no column x"),
        ("recommend", ["1", "--output", "films.csv/o.csv"], "--output films.csv/o.csv: Not a directory"),
        (
            "recommend",
            ["1", "--output", "o.txt"],
            "--output o.txt: wanted a file with one of the suffixes .jsonl, .csv",
        ),
        ("recommend", ["[99999]"], "in0[0] has the token 99999, wanted a token id from 0 to"),
        ("recommend", ["[true]"], "in0[0] has the token True, wanted a token id"),
        ("recommend", ["1", "[2]"], "some objects are raw values and some are lists of token ids"),
        ("recommend", ["--input", "empty.jsonl", "--output", "o.parquet"], "the input has no rows"),
        ("recommend", ["--input", "missing.jsonl"], "missing.jsonl: No such file or directory"),
        ("recommend", ["--input", "bad.jsonl"], "bad.jsonl, line 2: not JSON"),
        ("embed", ["--side", "in1", "--output", "e.bin"], "--output e.bin: wanted a file that ends in .npy"),
        ("embed", ["--side", "in1", "--output", "e.npy", "--dims", "999"], "--dims 999: wanted a number from 1 to "),
        ("index", ["--objects", "missing.csv"], "missing.csv: No such file or directory"),
        ("index", ["--objects", "films.csv", "--side", "in0"], "films.csv: there is no column user, the nearest is"),
        ("index", ["--objects", "twice.csv"], "twice.csv: the column film is there twice, wanted once"),
        ("recommend", ["1", "--exclude", "twice.csv"], "twice.csv: the column film is there twice, wanted once"),
        ("recommend", ["1", "--exclude", "users.jsonl"], "users.jsonl: there is no column film, the nearest is user"),
        (
            "recommend",
            ["1", "--allowed", "lists.jsonl"],
            "lists.jsonl: film[0] is the list ['a', 'b'], wanted a string",
        ),
        ("recommend", ["--input", "twice.csv"], "twice.csv: there is no column user, the nearest is"),
        ("recommend", ["--input", "users.jsonl"], "users.jsonl, from line 3: in0[1].user is the list [7], wanted"),
        ("embed", ["--side", "in0", "--input", "users.jsonl", "--output", "e.npy"], "users.jsonl, from line 3: in0[1]"),
    ],
)
def test_errors_are_one_sentence(
    indexed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    words: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(indexed)
    monkeypatch.setattr(command, "CHUNK_LINES", 2)
    (indexed / "bad.jsonl").write_text("1\n{1\n")
    (indexed / "twice.csv").write_text("film,title,film\n1,One,2\n")
    (indexed / "lists.jsonl").write_text('{"film":["a","b"]}\n')
    (indexed / "users.jsonl").write_text('{"user":1}\n{"user":2}\n{"user":3}\n{"user":[7]}\n')
    (indexed / "empty.jsonl").touch()
    assert run(verb, indexed, *words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("object2vec: error: ")
    assert sentence in printed.err
    assert printed.err.count("\n") == 1
    assert [path.name for path in indexed.iterdir() if path.name.startswith((".", "e.", "o."))] == []


def test_an_archive_has_no_place_for_an_index(
    indexed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own index can be used."""
    archive = shutil.make_archive(str(tmp_path / "model"), "gztar", indexed / "model")
    assert main(["index", "--model", archive, "--objects", str(indexed / "films.csv")]) == 2
    assert "an archive, wanted the directory of a model" in capsys.readouterr().err
    assert main(["recommend", "--model", archive, "2"]) == 0


@pytest.mark.parametrize("suffix", ["npy", "parquet", "jsonl", "txt"])
@pytest.mark.parametrize("source", ["films.csv", "q.jsonl", None])
def test_embeddings_in_all_formats(indexed: Path, tmp_path: Path, suffix: str, source: str | None) -> None:
    """A row for each object, in order."""
    (indexed / "q.jsonl").write_text("".join(f'{{"film": {film}}}\n' for film in range(1, 5)))
    output = tmp_path / f"e.{suffix}"
    words = [] if source is None else ["--input", indexed / source]
    assert run("embed", indexed, "--side", "in1", "--output", output, *words) == 0
    wanted = object2vec.load(indexed / "model").encode([1, 2, 3, 4], "in1")
    keys: list[str] | None = None
    if suffix == "npy":
        found = np.load(output)
    elif suffix == "parquet":
        table = pd.read_parquet(output)
        keys, found = table["film"].astype(str).tolist(), np.stack(table["embedding"])
    elif suffix == "jsonl":
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        keys, found = [str(line["film"]) for line in lines], np.array([line["embedding"] for line in lines])
    else:
        header, *rows = [line.split() for line in output.read_text().splitlines()]
        assert list(map(int, header)) == list(wanted.shape)
        keys, found = [row[0] for row in rows], np.array([row[1:] for row in rows], np.float32)
    assert keys in (None, ["1", "2", "3", "4"])
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_embeddings_are_cut(indexed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first numbers are written, and the share of neighbors that stay is printed."""
    wanted = object2vec.load(indexed / "model").encode([1, 2, 3, 4], "in1")
    for dims in (wanted.shape[1], 2):
        assert run("embed", indexed, "--side", "in1", "--output", tmp_path / "e.npy", "--dims", dims) == 0
        np.testing.assert_array_equal(np.load(tmp_path / "e.npy"), wanted[:, :dims])
        recall = float(re.search(rf"float32, {dims} of {wanted.shape[1]} numbers: (\S+),", capsys.readouterr().out)[1])
        assert recall == 1 or dims == 2


@pytest.mark.parametrize("dtype, bound", [("float16", 1e-3), ("int8", 1e-2), ("binary", 1.0)])
def test_fewer_bits_keep_the_direction(
    indexed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], dtype: str, bound: float
) -> None:
    assert run("embed", indexed, "--side", "in1", "--output", tmp_path / "e.npy", "--dtype", dtype) == 0
    assert f"of {dtype}: " in capsys.readouterr().out
    wanted, found = object2vec.load(indexed / "model").encode([1, 2, 3, 4], "in1"), np.load(tmp_path / "e.npy")
    if dtype == "binary":
        assert found.dtype == np.uint8
        assert (np.unpackbits(found, axis=1, count=wanted.shape[1]).astype(bool) == (wanted > 0)).all()
        return
    assert found.dtype == dtype
    found = found.astype(np.float32)
    cosine = (found * wanted).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(wanted, axis=1)
    assert (1 - cosine < bound).all()
