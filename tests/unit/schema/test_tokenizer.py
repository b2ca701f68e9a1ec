"""Tokenizers of Hugging Face as an option of a text column."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from object2vec.cli import main
from object2vec.errors import ArtifactError, UserError
from object2vec.prepare.dataset import Dataset, Plan
from object2vec.prepare.splits import Split
from object2vec.schema.columns import Text, Token, parse_column
from object2vec.schema.schema import Schema
from object2vec.schema.tokenizer import Tokenizer

pytest.importorskip("duckdb")
pa = pytest.importorskip("pyarrow")
tokenizers = pytest.importorskip("tokenizers")

TITLES = ["The Lion King", "Kings of Lions", "Thelonious", "A lion", "The king"] * 4


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer that is trained here, and that would add special tokens, cut texts and fill them."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = ["[UNK]", "[CLS]", "[PAD]"]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=25, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TITLES, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing("[CLS] $A", special_tokens=[("[CLS]", 1)])
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=9)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture
def schema(file: Path) -> Schema:
    column = parse_column(f"title:text(min_count=2,tokenizer={file})")
    table = pa.table({"title": TITLES, "user": [str(row % 3) for row in range(len(TITLES))]})
    with closing(
        Dataset.read(
            [dict(zip(table.column_names, table.columns, strict=True))],
            Plan(in0=(Token("user"),), in1=(column,), split=Split(kind="none")),
        )
    ) as dataset:
        return dataset.schema


def tokens(file: Path, text: str) -> list[str]:
    return tokenizers.Tokenizer.from_file(str(file)).encode(text, add_special_tokens=False).tokens


def test_values_are_split_by_the_tokenizer(schema: Schema, file: Path) -> None:
    """Whole, without special tokens; a row and a column have the same ids."""
    library = tokenizers.Tokenizer.from_file(str(file))
    library.no_truncation()
    library.no_padding()
    wanted = [library.encode(title, add_special_tokens=False).tokens for title in TITLES]
    assert max(map(len, wanted)) > 3
    vocabulary = schema["in1"].vocabulary
    values = [[vocabulary.token(token)[1] for token in ids] for ids in schema.encode("in1", TITLES).to_lists()]  # type: ignore[index]
    assert values == wanted
    columns = schema.encode_columns("in1", {"title": pa.array(TITLES)})
    assert columns.to_lists() == schema.encode("in1", TITLES).to_lists()
    assert schema.encode("in1", [None, "", 7]).to_lists() == schema.encode("in1", ["", "", "7"]).to_lists()


def test_a_schema_contains_its_tokenizer(schema: Schema, file: Path, tmp_path: Path) -> None:
    schema.save(tmp_path)
    loaded = Schema.load(tmp_path)
    assert loaded == schema.__class__(loaded.sides, schema.label, schema.tied)
    assert loaded["in1"].columns == schema["in1"].columns
    assert loaded["in1"].columns[0].tokenizer == Tokenizer(file.read_text())  # type: ignore[union-attr]
    assert loaded.encode("in1", ["lion kings"]).to_lists() == schema.encode("in1", ["lion kings"]).to_lists()


def test_model_of_prepared_data_answers_with_the_tokenizer(file: Path, tmp_path: Path) -> None:
    """Prepare, train and load agree on ids without the file."""
    rows = [f"{row % 3},{title},{row % 2}" for row, title in enumerate(TITLES)]
    table = tmp_path / "titles.csv"
    table.write_text("\n".join(["user,title,label", *rows]) + "\n")
    own = tmp_path / "copy.json"
    own.write_bytes(file.read_bytes())
    argv = ["--in0", f"title:text(tokenizer={own})", "--in1", "user", "--label", "label", "--split", "none"]
    assert main(["prepare", str(table), *argv, "--out", str(tmp_path / "data"), "--unknown-rate", "0"]) == 0
    own.unlink()
    assert main(["train", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "model"), "--hyperparameters",
                 "epochs=1"]) == 0  # fmt: skip
    import object2vec

    model = object2vec.load(tmp_path / "model")
    records = [json.loads(line) for line in (tmp_path / "data/train.jsonl").read_text().splitlines()]
    ids = sorted(model.schema.encode("in0", TITLES).to_lists())
    assert sorted(record["in0"] for record in records) == ids
    first = sorted({tuple(record["in0"]) for record in records})[0]
    title = next(t for t in TITLES if model.schema.encode("in0", [t]).to_lists() == [list(first)])
    np.testing.assert_array_equal(model.encode([list(first)], side="in0"), model.encode([title], side="in0"))


@pytest.mark.parametrize("content", [None, "{}", "no json", "\ufeff"])
def test_a_file_that_is_no_tokenizer(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "t.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"t\.json: .*, wanted a tokenizer that `tokenizers` wrote as JSON"):
        parse_column(f"title:text(tokenizer={path})")


def test_missing_library_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"pip install 'object2vec\[tokenizers\]'"):
        parse_column(f"title:text(tokenizer={file})")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"tokenizers": {"in1": {"title": "{}"}}}, "wanted a schema"),
        ({"tokenizers": {"in1": ["title"]}}, '"tokenizers" must be an object of objects'),
        ({"tokenizers": []}, '"tokenizers" must be an object of objects'),
        ({"in1": ["title:text(tokenizer=/etc/hostname)"]}, "no option tokenizer"),
    ],
)
def test_faults_of_a_saved_tokenizer(schema: Schema, tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    """A schema that someone else wrote reads no other file."""
    schema.save(tmp_path)
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactError, match=sentence):
        Schema.load(tmp_path)


def test_columns_with_different_tokenizers_differ(file: Path) -> None:
    assert parse_column(f"title:text(tokenizer={file})") != Text("title")
