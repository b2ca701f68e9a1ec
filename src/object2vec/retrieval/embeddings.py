"""Files of embeddings: .npy, Parquet, JSON Lines, or the text of word2vec; also in fewer bits.

Shapes: N objects, D numbers an embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Float32
from object2vec.data.outputs import os_errors_as_user_errors, writing
from object2vec.errors import UserError
from object2vec.extras import import_extra
from object2vec.retrieval.answers import to_json, to_list, write_tables
from object2vec.retrieval.vector_index import VectorIndex

Part = tuple[Mapping[str, Any], Float32]
SUFFIXES: Final = (".npy", ".parquet", ".jsonl", ".txt")
#: Embeddings and queries that the change of neighbors is measured on, and the neighbors of each.
SAMPLE_VECTORS: Final = 20_000
SAMPLE_QUERIES: Final = 500
SAMPLE_K: Final = 10
NPY_HEADER_BYTES: Final = 128
TEXT_HEADER_BYTES: Final = 32


class Sample:
    """The first embeddings of a file, to measure how fewer bits or numbers change their neighbors."""

    def __init__(self) -> None:
        self._parts: list[Float32] = []
        self.count = 0

    def add(self, vectors: Float32) -> None:
        left = vectors[: max(0, SAMPLE_VECTORS - self.count)]
        self._parts.append(left.copy())
        self.count += len(left)

    def recall(self, dtype: str, dims: int | None = None) -> float:
        """Return the share of the nearest neighbors by cosine that are the same with fewer bits or numbers."""
        exact = np.concatenate(self._parts)
        queries = np.random.default_rng(0).permutation(len(exact))[:SAMPLE_QUERIES]
        cut = exact[:, :dims]
        nearest = [
            VectorIndex.build(vectors, "cosine").search(vectors[queries], SAMPLE_K, excluded=list(queries[:, None]))[0]
            for vectors in (exact, restore(quantize(cut, dtype), dtype, cut.shape[1]))
        ]
        shared = [len(set(first) & set(second) - {-1}) for first, second in zip(*nearest, strict=True)]
        return sum(shared) / max(1, int((nearest[0] >= 0).sum()))


def quantize(vectors: Float32, dtype: str) -> npt.NDArray[Any]:
    """Return embeddings (N, D) in fewer bits.

    int8 scales each embedding so that its largest number is 127. That keeps the cosine. binary is a bit for each
    number, 1 if it is positive, in bytes (N, D / 8).
    """
    if dtype == "binary":
        return np.packbits(vectors > 0, axis=1)
    if dtype == "int8":
        scales = 127 / np.abs(vectors).max(axis=1, keepdims=True, initial=1e-30)
        quantized: npt.NDArray[np.int8] = np.rint(vectors * scales).astype(np.int8)
        return quantized
    if dtype == "float16":
        largest = np.finfo(np.float16).max
        return vectors.clip(-largest, largest).astype(np.float16)
    return vectors


def restore(vectors: npt.NDArray[Any], dtype: str, width: int) -> Float32:
    """Return embeddings (N, D) in float32; those of `binary` are of -1 and 1."""
    if dtype == "binary":
        return np.unpackbits(vectors, axis=1, count=width).astype(np.float32) * 2 - 1
    return vectors.astype(np.float32)


def write_embeddings(parts: Iterable[Part], output: str, dtype: str, dims: int | None = None) -> Sample:
    """Write columns of objects and their embeddings to a file; its suffix decides the format. Return a sample.

    Only the first `dims` numbers of embeddings are written; all of them if it is None.

    Raises:
        UserError: the format is not known, or cannot hold these objects; or the file cannot be written.
    """
    suffix = Path(output).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"--output {output}: wanted a file that ends in {', '.join(SUFFIXES)}")
    sample = Sample()

    def quantized() -> Iterable[tuple[Mapping[str, Any], npt.NDArray[Any]]]:
        for columns, vectors in parts:
            sample.add(vectors)
            yield columns, quantize(vectors[:, :dims], dtype)

    write = {".npy": _write_npy, ".parquet": _write_parquet, ".jsonl": _write_json_lines, ".txt": _write_word2vec}
    with writing(output) as file, os_errors_as_user_errors(f"--output {output}"):
        write[suffix](quantized(), file)
    return sample


def _write_npy(parts: Iterable[Part], file: IO[bytes]) -> None:
    """Write an array; its shape is known at the end."""
    file.write(bytes(NPY_HEADER_BYTES))
    count, width, dtype = 0, 0, np.dtype(np.float32)
    for _, vectors in parts:
        file.write(np.ascontiguousarray(vectors).data)
        count, width, dtype = count + len(vectors), vectors.shape[1], vectors.dtype
    text = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': ({count}, {width}), }}"
    size = NPY_HEADER_BYTES - 10
    file.seek(0)
    file.write(b"\x93NUMPY\x01\x00" + size.to_bytes(2, "little") + f"{text:{size - 1}}\n".encode())


def _write_parquet(parts: Iterable[Part], file: IO[bytes]) -> None:
    pa = import_extra("pyarrow")

    def to_table(columns: Mapping[str, Any], vectors: npt.NDArray[Any]) -> Any:
        lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        return pa.table({**columns, "embedding": lists})

    write_tables((to_table(*part) for part in parts), file, ".parquet")


def _write_json_lines(parts: Iterable[Part], file: IO[bytes]) -> None:
    for columns, vectors in parts:
        rows = zip(*map(to_list, columns.values()), vectors, strict=True)
        names = [*columns, "embedding"]
        file.writelines(to_json(dict(zip(names, row, strict=True))) + b"\n" for row in rows)


def _write_word2vec(parts: Iterable[Part], file: IO[bytes]) -> None:
    """Write the number of objects and of dimensions, then a line for each object: its value and its numbers."""
    pa, pc, csv = (import_extra(name) for name in ("pyarrow", "pyarrow.compute", "pyarrow.csv"))
    options = csv.WriteOptions(include_header=False, delimiter=" ", quoting_style="none")
    file.write(b" " * (TEXT_HEADER_BYTES - 1) + b"\n")
    count, width = 0, 0
    for columns, vectors in parts:
        if len(columns) != 1 or pa.types.is_nested((values := pa.array(*columns.values())).type):
            raise UserError(f"a .txt file has one value per object, not {', '.join(columns)}; wanted another format")
        keys = pc.replace_substring_regex(values.cast(pa.large_string()), r'[\s"]+', "_")
        numbers = {str(place): pa.array(column) for place, column in enumerate(vectors.astype(np.float32).T)}
        csv.write_csv(pa.table({"key": keys, **numbers}), file, options)
        count, width = count + len(vectors), vectors.shape[1]
    file.seek(0)
    file.write(f"{count} {width}".encode())
