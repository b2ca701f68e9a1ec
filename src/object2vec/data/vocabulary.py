"""Vocabulary files: one JSON object from word to token id."""

from __future__ import annotations

import json
from pathlib import Path

from object2vec.data.files import read_object
from object2vec.errors import DataError, shortened
from object2vec.hyperparameters.kinds import Integer


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


def _json(value: object) -> str:
    try:
        return json.dumps(value)
    except RecursionError:  # json reads deeper nesting than it writes
        return "[[…"
