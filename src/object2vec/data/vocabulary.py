"""Vocabulary files: one JSON object from word to token id."""

from __future__ import annotations

import json
from pathlib import Path

from object2vec.data.files import read_object
from object2vec.errors import DataError, shortened


def read_vocabulary(path: Path, vocab_size: int) -> dict[str, int]:
    """Read a vocabulary whose ids must be below `vocab_size`.

    Raises:
        DataError: the file cannot be read, or is no object from word to token id.
    """
    vocabulary = read_object(path, 'wanted one JSON object like {"word": 7}', DataError)
    for word, token in vocabulary.items():
        if type(token) is not int or not 0 <= token < vocab_size:
            text = f"the word {shortened(repr(word))} has the id {shortened(_json(token))}"
            raise DataError(f"{path}: {text}, wanted an integer from 0 to {vocab_size - 1}, vocab_size less 1")
    return vocabulary


def _json(value: object) -> str:
    try:
        return json.dumps(value)
    except RecursionError:  # it reads deeper nesting than it writes
        return "[[…"
