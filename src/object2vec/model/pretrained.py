"""Pretrained token embeddings in GloVe's text form: `word v1 … vD` a line, single spaces, no header."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from object2vec.arrays import Float32
from object2vec.data.files import open_file
from object2vec.errors import DataError, shortened

#: Bytes of the longest line that is read: tens of times what a thousand numbers take.
LONGEST: Final = 2**20


def load_pretrained(path: Path, vocabulary: Mapping[str, int], table: Tensor) -> int:
    """Put the vectors of the vocabulary's words into their rows of `table` (V, E); other rows stay as they are.

    Returns how many words were found.

    Raises:
        DataError: the file cannot be read, or a line of it has not E numbers.
    """
    found: dict[int, Float32] = {}
    try:
        for word, vector in _vectors(path, vocabulary, table.shape[1]):
            found.setdefault(vocabulary[word], vector)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if found:
        rows = torch.tensor(list(found), device=table.device)
        with torch.no_grad():
            table[rows] = torch.from_numpy(np.stack(list(found.values()))).to(table.device)
    return len(found)


def _vectors(path: Path, vocabulary: Mapping[str, int], dim: int) -> Iterator[tuple[str, Float32]]:
    """The words of the file that are in the vocabulary, with their vectors.

    A word may hold spaces (GloVe's 840B has some): the last `dim` fields are the vector. Most lines of a large file
    are of no use, and are passed over by the word's first part.
    """
    words = {word.encode(errors="replace"): word for word in vocabulary}
    openings = {word.partition(b" ")[0] for word in words}
    with open_file(path) as stream:
        for line, text in enumerate(iter(partial(stream.readline, LONGEST), b""), start=1):
            if len(text) == LONGEST:
                raise DataError.at(
                    path, line, f"the line is longer than {LONGEST >> 20} MiB, wanted a word and numbers"
                )
            if text.partition(b" ")[0] not in openings:
                continue
            word, *numbers = text.rstrip().rsplit(b" ", dim)
            if word in words:
                yield words[word], _vector(path, line, numbers, dim)
                continue
            word, *numbers = text.rstrip().split(b" ")
            if word in words and all(map(_is_number, numbers)):  # a vector of another length, and no longer word
                _vector(path, line, numbers, dim)


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _vector(path: Path, line: int, numbers: list[bytes], dim: int) -> Float32:
    wanted = f"wanted a word and {dim} numbers, as token_embedding_dim says"
    if len(numbers) != dim:
        raise DataError.at(path, line, f"a word and {len(numbers)} numbers, {wanted}")
    try:
        vector = np.array([float(number) for number in numbers])
    except ValueError as error:
        raise DataError.at(path, line, f"{shortened(str(error), 80)}, {wanted}") from None
    if not (np.abs(vector) <= np.finfo(np.float32).max).all():
        raise DataError.at(path, line, f"a number that float32 cannot hold, {wanted}")
    return vector.astype(np.float32)
