"""Vocabulary files."""

from __future__ import annotations

from pathlib import Path

import pytest

from object2vec.data.vocabulary import read_vocabulary
from object2vec.errors import DataError


def test_words_have_their_ids(tmp_path: Path) -> None:
    """One JSON object from word to id is read as it is."""
    path = tmp_path / "v.json"
    path.write_text('{"the": 0, "é": 2, "": 1}')
    assert read_vocabulary(path, 3) == {"the": 0, "é": 2, "": 1}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)), "),
        ("[1]", "not an object, "),
        ('{"a": 3}', "the word 'a' has the id 3, wanted an integer from 0 to 2, vocab_size less 1"),
        ('{"a": -1}', "the word 'a' has the id -1, wanted an integer from 0 to 2"),
        ('{"a": "1"}', "the word 'a' has the id \"1\", wanted an integer from 0 to 2"),
        ('{"a": true}', "the word 'a' has the id true, wanted an integer from 0 to 2"),
        ('{"a": "' + "x" * 5000 + '"}', "the word 'a' has the id \"" + "x" * 39 + "…, wanted an integer from 0 to 2"),
        ('{"' + "x" * 5000 + '": 7}', "the word '" + "x" * 39 + "… has the id 7, wanted an integer from 0 to 2"),
        ('{"\\ud800\\n": NaN}', "the word '\\ud800\\n' has the id NaN, wanted an integer from 0 to 2"),
        ('{"a": 1.0}', "the word 'a' has the id 1.0, wanted an integer from 0 to 2"),
    ],
)
def test_what_is_no_vocabulary_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    """A file that is no object from word to id below vocab_size is named with what is wrong."""
    path = tmp_path / "v.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_vocabulary(path, 3)
    assert str(caught.value).startswith(f"{path}: {sentence}")


def test_a_missing_vocabulary_is_named(tmp_path: Path) -> None:
    """A vocabulary that is not there is named."""
    with pytest.raises(DataError, match=r"none\.json: No such file or directory, wanted one JSON object"):
        read_vocabulary(tmp_path / "none.json", 3)
