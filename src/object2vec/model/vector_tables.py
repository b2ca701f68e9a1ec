"""Read tables of pretrained vectors: `.npy` and `.safetensors`, with a vocabulary in another file."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from object2vec.data.files import READ_ERRORS
from object2vec.data.vocabulary import find_row_vocabulary, read_row_vocabulary
from object2vec.errors import DataError

logger = logging.getLogger(__name__)

#: Ends of the names of the table, if a safetensors file has several: of models of static embeddings, and of BERT.
TABLE_NAMES = ("embeddings", "embedding.weight", "word_embeddings.weight")


def read_vectors(path: Path, words: Iterable[str], dim: int) -> tuple[dict[str, Tensor], Mapping[str, int]]:
    """Return the vectors of those `words` that the vocabulary of a table has, and this vocabulary, word to row.

    Raises:
        DataError: a file cannot be read, the table has another shape, or a vector is not finite.
    """
    vocabulary = read_row_vocabulary(find_row_vocabulary(path))
    try:
        table = np.lib.format.open_memmap(path, mode="r") if path.suffix.lower() == ".npy" else _open_safetensors(path)
    except (*READ_ERRORS, ValueError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    _check(path, table, vocabulary, dim)
    found = [word for word in words if word in vocabulary]
    rows = table[np.array([vocabulary[word] for word in found], np.int64)]
    vectors = torch.as_tensor(rows).float()
    for word, vector in zip(found, vectors, strict=True):
        if not vector.isfinite().all():
            raise DataError(f"{path}: the vector in row {vocabulary[word]} is not finite in float32")
    return dict(zip(found, vectors, strict=True)), vocabulary


def _check(path: Path, table: Any, vocabulary: Mapping[str, int], dim: int) -> None:
    """Check the shape and the type of a table, and that its rows are those of the vocabulary."""
    shape, rows = tuple(table.shape), max(vocabulary.values(), default=-1) + 1
    if len(shape) != 2 or shape[1] != dim:
        raise DataError(f"{path}: its shape is {shape}, wanted (rows, {dim}), as token_embedding_dim says")
    if "float" not in str(table.dtype):
        raise DataError(f"{path}: its type is {table.dtype}, wanted float16, bfloat16, float32 or float64")
    if rows > shape[0]:
        name = find_row_vocabulary(path).name
        raise DataError(f"{path}: its shape is {shape}, wanted at least {rows} rows, as {name} says")
    if rows < shape[0]:
        logger.warning(f"{path}: its last {shape[0] - rows} of {shape[0]} rows have no word in the vocabulary")


def _open_safetensors(path: Path) -> Tensor:
    """Return the only matrix of a file, or the one that has a known name."""
    with safe_open(path, framework="pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 -- no iterator
        matrices = [name for name, shape in shapes.items() if len(shape) == 2]
        named = [name for name in matrices if name.endswith(TABLE_NAMES)] if len(matrices) > 1 else matrices
        if len(named) != 1:
            names = ", ".join(sorted(matrices)[:5]) or "none"
            raise ValueError(f"wanted one matrix, or one named {' or '.join(TABLE_NAMES)}; its matrices are: {names}")
        if {"weights", "mapping"} & shapes.keys():
            raise ValueError("its vectors have weights or a mapping of their own; save it without them")
        return file.get_tensor(named[0])  # type: ignore[no-any-return]  # safetensors has no types
