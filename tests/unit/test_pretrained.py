"""Pretrained token embeddings."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from object2vec.data.files import open_file
from object2vec.errors import DataError
from object2vec.model.pretrained import load_pretrained


def loaded(path: Path, vocabulary: dict[str, int]) -> tuple[int, torch.Tensor]:
    table = torch.full((5, 2), 9.0)
    return load_pretrained(path, vocabulary, table), table


def test_words_of_the_vocabulary_get_their_vectors(tmp_path: Path) -> None:
    """Rows of words in the file take its vectors, the others stay; words of other vocabularies are passed over."""
    path = tmp_path / "g.txt"
    path.write_text("the 1 2\nother not a vector\nthe dog 5 5\ncat -0.5 1e-3\nthe 7 7\n", encoding="utf-8")
    found, table = loaded(path, {"the": 3, "cat": 0, "dog": 1})
    assert found == 2
    assert table.tolist() == [[-0.5, pytest.approx(1e-3)], [9, 9], [9, 9], [1, 2], [9, 9]]


def test_words_with_spaces_and_other_alphabets(tmp_path: Path) -> None:
    """The last numbers of a line are the vector, so that a word may hold spaces; words are UTF-8; a file may be .gz."""
    path = tmp_path / "g.txt.gz"
    path.write_bytes(gzip.compress(". . . 1 2\nnaïve 3 4\n. 5 6\r\n".encode()))
    found, table = loaded(path, {". . .": 0, "naïve": 1, ".": 2})
    assert found == 3
    assert table[:3].tolist() == [[1, 2], [3, 4], [5, 6]]


def test_two_words_may_share_an_id(tmp_path: Path) -> None:
    """Of two words with one id, the first in the file gives the row, which counts once."""
    path = tmp_path / "g.txt"
    path.write_text("a 1 2\nb 3 4\n")
    found, table = loaded(path, {"a": 0, "b": 0})
    assert found == 1
    assert table[0].tolist() == [1, 2]


def test_nothing_found_is_no_fault(tmp_path: Path) -> None:
    """A file without a word of the vocabulary leaves the table as it is."""
    path = tmp_path / "g.txt"
    path.write_text("x 1 2\n")
    found, table = loaded(path, {"the": 3})
    assert found == 0
    assert (table == 9).all()


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("the 1", "a word and 1 numbers, wanted a word and 2 numbers, as token_embedding_dim says"),
        ("the 1 x", "could not convert string to float: b'x', wanted a word and 2 numbers"),
        ("the 1 nan", "a number that float32 cannot hold, wanted a word and 2 numbers"),
        ("the inf 1", "a number that float32 cannot hold, wanted a word and 2 numbers"),
        ("the 1 1e39", "a number that float32 cannot hold, wanted a word and 2 numbers"),
        ("the 1 2 3", "a word and 3 numbers, wanted a word and 2 numbers, as token_embedding_dim says"),
    ],
)
def test_a_line_of_another_form_is_named(tmp_path: Path, line: str, what: str) -> None:
    """A line of a wanted word that has not as many numbers as an embedding is named with its number."""
    path = tmp_path / "g.txt"
    path.write_text(f"cat 1 2\n{line}\n")
    with pytest.raises(DataError) as caught:
        loaded(path, {"the": 3, "cat": 0})
    assert str(caught.value).startswith(f"{path}, line 2: {what}")


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    """A line that is no word and its numbers is not read into memory to its end, wherever that is."""
    path = tmp_path / "g.txt"
    path.write_bytes(b"cat 1 2\n" + b"x" * 2**22)
    with pytest.raises(DataError, match=r"line 2: the line is longer than 1 MiB, wanted a word and numbers$"):
        loaded(path, {"the": 3, "cat": 0})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file and a truncated compressed one are named."""
    with pytest.raises(DataError, match=r"none.txt: cannot be read \(.*No such file"):
        loaded(tmp_path / "none.txt", {})
    path = tmp_path / "g.txt.gz"
    path.write_bytes(gzip.compress(b"the 1 2\n" * 1000)[:-12])
    with pytest.raises(DataError, match=r"g.txt.gz: cannot be read \(Compressed file ended"):
        loaded(path, {"cat": 0})
    with open_file(tmp_path / "g.txt.gz") as stream, pytest.raises(EOFError):
        stream.read()
