"""Vocabulary files: one JSON object from word to token id, and the words of the rows of a table of vectors."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from object2vec.data.files import READ_ERRORS, open_file, read_object
from object2vec.errors import DataError, shortened
from object2vec.hyperparameters.kinds import Integer

#: Ends of the names of tables of vectors.
TABLES: Final = (".npy", ".safetensors")
#: The tokenizer file of Hugging Face.
TOKENIZER: Final = "tokenizer.json"


def read_vocabulary(path: Path, vocab_size: int) -> dict[str, int]:
    """Read a vocabulary whose ids must be below `vocab_size`; an id may be written as "7" or 7.0.

    Raises:
        DataError: the file cannot be read, or is not an object from word to token id.
    """
    kind = Integer(0, vocab_size - 1)
    vocabulary = read_object(path, 'wanted one JSON object like {"word": 7}', DataError)
    for word, token in vocabulary.items():
        if type(token) is int and 0 <= token < vocab_size:
            continue
        try:
            if not isinstance(token, int | float | str) or isinstance(token, bool):
                raise ValueError(token)
            vocabulary[word] = kind.parse(str(token).strip())
        except ValueError:
            text = f"the word {shortened(repr(word))} has the id {shortened(_json(token))}"
            raise DataError(f"{path}: {text}, wanted {kind.wanted}, vocab_size less 1") from None
    return vocabulary


def is_table(path: Path) -> bool:
    """Return whether a file of pretrained embeddings is a table, whose words are in another file."""
    return path.name.lower().endswith(TABLES)


def find_row_vocabulary(table: Path) -> Path:
    """Return the file in the folder of a table of vectors that has the words of its rows.

    Raises:
        DataError: there is none.
    """
    names = [f"{table.stem}.txt", f"{table.stem}.json", "vocab.txt", "vocab.json", TOKENIZER]
    for name in dict.fromkeys(names):
        if (path := table.parent / name).is_file():
            return path
    raise DataError(f"{table}: no file in its folder has its words, wanted one of {', '.join(names)}")


def read_row_vocabulary(path: Path) -> dict[str, int]:
    """Return the rows of words: a word per line of text, a JSON object from word to row, or a tokenizer's.

    The first row of a word counts.

    Raises:
        DataError: the file cannot be read, or is none of these.
    """
    if path.suffix == ".txt":
        try:
            with open_file(path) as stream:
                lines = stream.read().decode().removesuffix("\n").split("\n")
        except (*READ_ERRORS, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read ({error}), wanted a word per line, as UTF-8") from error
        return _rows(line.removesuffix("\r") for line in lines)
    wanted = 'wanted a JSON object like {"word": 7}, or a tokenizer of Hugging Face'
    words: Any = read_object(path, wanted, DataError)
    if isinstance(model := words.get("model"), dict):
        words = model.get("vocab")
        if isinstance(words, list) and all(isinstance(entry, list) and entry for entry in words):  # unigrams
            words = _rows(entry[0] for entry in words)
    if not isinstance(words, dict) or not all(type(row) is int and row >= 0 for row in words.values()):
        raise DataError(f"{path}: not rows of words, {wanted}")
    return words


def _rows(words: Iterable[str]) -> dict[str, int]:
    """Return the first row of each word."""
    found: dict[str, int] = {}
    for row, word in enumerate(words):
        found.setdefault(word, row)
    return found


def _json(value: object) -> str:
    try:
        return json.dumps(value)
    except RecursionError:  # json reads deeper nesting than it writes
        return "[[…"
