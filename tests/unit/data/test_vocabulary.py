"""Vocabulary files."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from object2vec.data.vocabulary import read_vocabulary
from object2vec.errors import DataError


def test_vocabulary_is_read(tmp_path: Path) -> None:
    """One JSON object from word to id."""
    path = tmp_path / "v.json"
    path.write_text('{"the": 0, "é": 2, "": 1}')
    assert read_vocabulary(path, 3) == {"the": 0, "é": 2, "": 1}


@pytest.mark.parametrize("text", ['{"a": "1", "b": "2.0"}', '{"a": 1.0, "b": 2e0}', '{"a": " 1 ", "b": "2e+00"}'])
def test_ids_may_be_text_or_whole_floats(tmp_path: Path, text: str) -> None:
    """Some tools write integers as text or floats."""
    path = tmp_path / "v.json"
    path.write_text(text)
    vocabulary = read_vocabulary(path, 3)
    assert vocabulary == {"a": 1, "b": 2}
    assert {type(token) for token in vocabulary.values()} == {int}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("compressed", [True, False])
def test_json_encodings_and_gzip_are_detected(tmp_path: Path, encoding: str, compressed: bool) -> None:
    """A byte order mark, UTF-16, UTF-32 and gzip."""
    path = tmp_path / "v.json"
    content = '{"the": 0, "é": 2}'.encode(encoding)
    path.write_bytes(gzip.compress(content) if compressed else content)
    assert read_vocabulary(path, 3) == {"the": 0, "é": 2}


def test_repeated_word_with_equal_id_is_accepted(tmp_path: Path) -> None:
    """Two words may share an id too."""
    path = tmp_path / "v.json"
    path.write_text('{"a": 1, "b": 1, "a": 1}')
    assert read_vocabulary(path, 3) == {"a": 1, "b": 1}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)), "),
        ("[1]", "not an object, "),
        ('{"a": 3}', "the word 'a' has the id 3, wanted an integer from 0 to 2, vocab_size less 1"),
        ('{"a": -1}', "the word 'a' has the id -1, wanted an integer from 0 to 2"),
        ('{"a": "3"}', "the word 'a' has the id \"3\", wanted an integer from 0 to 2"),
        ('{"a": "1_0"}', "the word 'a' has the id \"1_0\", wanted an integer from 0 to 2"),
        ('{"a": ""}', "the word 'a' has the id \"\", wanted an integer from 0 to 2"),
        ('{"a": null}', "the word 'a' has the id null, wanted an integer from 0 to 2"),
        ('{"a": [1]}', "the word 'a' has the id [1], wanted an integer from 0 to 2"),
        ('{"0": "a"}', "the word '0' has the id \"a\", wanted an integer from 0 to 2"),
        ('{"a": 1, "b": 2, "a": 2}', "'a' is there twice with different values, wanted one JSON object like"),
        ('{"a": true}', "the word 'a' has the id true, wanted an integer from 0 to 2"),
        ('{"a": "' + "x" * 5000 + '"}', "the word 'a' has the id \"" + "x" * 39 + "…, wanted an integer from 0 to 2"),
        ('{"' + "x" * 5000 + '": 7}', "the word '" + "x" * 39 + "… has the id 7, wanted an integer from 0 to 2"),
        ('{"\\ud800\\n": NaN}', "the word '\\ud800\\n' has the id NaN, wanted an integer from 0 to 2"),
        ('{"a": 1.5}', "the word 'a' has the id 1.5, wanted an integer from 0 to 2"),
        ('{"a": 1e999}', "the word 'a' has the id Infinity, wanted an integer from 0 to 2"),
    ],
)
def test_invalid_vocabulary_is_rejected(tmp_path: Path, text: str, sentence: str) -> None:
    """The error names the file and the problem."""
    path = tmp_path / "v.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_vocabulary(path, 3)
    assert str(caught.value).startswith(f"{path}: {sentence}")


def test_missing_vocabulary_is_named(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(DataError, match=r"none\.json: No such file or directory, wanted one JSON object"):
        read_vocabulary(tmp_path / "none.json", 3)
