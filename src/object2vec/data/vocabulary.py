"""Vocabulary files: one JSON object from word to token id."""

from __future__ import annotations

import json
from pathlib import Path

from object2vec.errors import DataError


def read_vocabulary(path: Path, vocab_size: int) -> dict[str, int]:
    """Read a vocabulary whose ids must be below `vocab_size`.

    Raises:
        DataError: the file cannot be read, or is no object from word to token id.
    """
    wanted = 'wanted one JSON object like {"word": 7}'
    try:
        vocabulary = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}, {wanted}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}), {wanted}") from error
    if not isinstance(vocabulary, dict):
        raise DataError(f"{path}: not an object, {wanted}")
    for word, token in vocabulary.items():
        if type(token) is not int or not 0 <= token < vocab_size:
            text = f"the word {word!r} has the id {json.dumps(token)}"
            raise DataError(f"{path}: {text}, wanted an integer from 0 to {vocab_size - 1}, vocab_size less 1")
    return vocabulary
