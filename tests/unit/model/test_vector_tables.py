"""Tables of pretrained vectors: what is read, and what is said of others."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from object2vec.errors import DataError
from object2vec.model.pretrained import Coverage, load_pretrained

VECTORS = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
WORDS = ["zoo", "the", "cat"]
VOCABULARY = {"the": [0, 3], "cat": [1], "Zoo": [2], "dog": [4]}
TOKENIZERS: list[Any] = [
    {"vocab": {word: row for row, word in enumerate(WORDS)}},
    {"vocab": [[word, -1.5] for word in WORDS]},
]


def loaded(path: Path, vocabulary: dict[str, list[int]] = VOCABULARY) -> tuple[Coverage, list[list[float]]]:
    table = torch.full((5, 2), 9.0)
    return load_pretrained(path, vocabulary, table), table.tolist()


def save(path: Path, vectors: Any = VECTORS, words: str = "\n".join(WORDS)) -> Path:
    np.save(path, vectors)
    path.with_name("vocab.txt").write_text(words)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("v.txt", "zoo\r\nthe\r\ncat\r\n"),
        ("v.json", json.dumps({word: row for row, word in enumerate(WORDS)})),
        ("vocab.txt", "zoo\nthe\ncat\nthe\n"),
        ("vocab.json", json.dumps({word: row for row, word in enumerate(WORDS)})),
        *(("tokenizer.json", json.dumps({"model": model})) for model in TOKENIZERS),
    ],
)
def test_words_are_in_a_file_of_the_same_folder(tmp_path: Path, name: str, text: str) -> None:
    """Each id of a word gets its vector; the first row of a word counts."""
    np.save(tmp_path / "v.npy", np.concatenate([VECTORS, VECTORS[:1]]))
    (tmp_path / name).write_text(text, newline="")
    assert loaded(tmp_path / "v.npy") == (Coverage(3, 5, 1), [[3, 4], [5, 6], [9, 9], [3, 4], [9, 9]])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_matrix_of_a_safetensors_file(tmp_path: Path, dtype: torch.dtype) -> None:
    """Of several matrices, it is the one with the name of word embeddings."""
    path = save(tmp_path / "v.npy").with_suffix(".safetensors")
    table = torch.from_numpy(VECTORS).to(dtype)
    positions = {"position_embeddings.weight": torch.zeros(9, 2), "norm": torch.zeros(2)}
    save_file({"embeddings.word_embeddings.weight": table, **positions}, path)
    assert loaded(path)[1][0] == [3, 4]
    save_file({"anything": table, "norm": torch.zeros(2)}, path)
    assert loaded(path)[1][0] == [3, 4]


@pytest.mark.parametrize(
    ("vectors", "sentence"),
    [
        (np.zeros((3, 5)), "its shape is (3, 5), wanted (rows, 2), as token_embedding_dim says"),
        (np.zeros(3), "its shape is (3,), wanted (rows, 2), as token_embedding_dim says"),
        (np.zeros((2, 2)), "its shape is (2, 2), wanted at least 3 rows, as vocab.txt says"),
        (np.zeros((3, 2), int), "its type is int64, wanted float16, bfloat16, float32 or float64"),
        (np.full((3, 2), 1e39), "the vector in row 1 is not finite in float32"),
        (np.array([[None, 1]] * 3), "cannot be read (Array can't be memory-mapped: Python objects in dtype.)"),
    ],
)
def test_unusable_table_is_named(tmp_path: Path, vectors: Any, sentence: str) -> None:
    """The error has the shape or type that the table has, and what was wanted. Objects are not unpickled."""
    path = save(tmp_path / "v.npy", vectors)
    with pytest.raises(DataError) as caught:
        loaded(path)
    assert str(caught.value) == f"{path}: {sentence}"


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"a": torch.zeros(3, 2), "b": torch.zeros(3, 2)}, "wanted one matrix, or one named embeddings or"),
        ({"a": torch.zeros(3)}, "its matrices are: none"),
        ({"embeddings": torch.zeros(3, 2), "weights": torch.zeros(3)}, "its vectors have weights or a mapping"),
    ],
)
def test_safetensors_file_without_one_matrix_is_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], sentence: str
) -> None:
    path = save(tmp_path / "v.npy").with_suffix(".safetensors")
    save_file(tensors, path)
    with pytest.raises(DataError, match=sentence):
        loaded(path)


@pytest.mark.parametrize("name", ["v.npy", "v.safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"the 1 2\n", b"\xff" * 99, b"PK\x03\x04"])
def test_damaged_table_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = save(tmp_path / "v.npy").with_name(name)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r": cannot be read \("):
        loaded(path)


@pytest.mark.parametrize("text", ["[]", '{"a": "b"}', '{"a": -1}', '{"a": 1.5}', '{"model": {"vocab": 7}}', "{"])
def test_file_without_rows_of_words_is_refused(tmp_path: Path, text: str) -> None:
    np.save(tmp_path / "v.npy", VECTORS)
    (tmp_path / "v.json").write_text(text)
    with pytest.raises(DataError, match=rf"^{tmp_path}/v\.json: "):
        loaded(tmp_path / "v.npy")


def test_no_word_found_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        loaded(save(tmp_path / "v.npy"), {"Zoo": [1], "x": [2]})
    assert str(caught.value) == (
        f"{tmp_path}/v.npy: none of the 2 words of the vocabulary is in it; 1 of them are in it in another letter "
        "case; its first words are 'zoo', 'the', 'cat', the vocabulary's 'Zoo', 'x'"
    )


def test_rows_without_a_word_are_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save(tmp_path / "v.npy", words="zoo\nthe")
    with caplog.at_level(logging.WARNING):
        assert loaded(path)[0].found == 2
    assert caplog.messages == [f"{path}: its last 1 of 3 rows have no word in the vocabulary"]
