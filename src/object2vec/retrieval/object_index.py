"""The index of one side in a model directory: its objects, their vectors, and the search among them.

A manifest, `index-in1.json`, names the files of an index. It is replaced last, so that a killed process leaves the old
index or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import object2vec
from object2vec import artifact
from object2vec.array_types import Float32
from object2vec.atomic_files import write_atomically
from object2vec.data.disk_arrays import AppendOnlyArray
from object2vec.data.files import read_object
from object2vec.data.records import SIDES, Side
from object2vec.data.sequences import Sequences
from object2vec.errors import AlgorithmError, ArtifactError, UserError
from object2vec.retrieval.array_files import open_array, write_array
from object2vec.retrieval.objects import Objects
from object2vec.schema.schema import Schema

if TYPE_CHECKING:
    from object2vec.model.network import Network
    from object2vec.retrieval.recommender import Recommender
    from object2vec.retrieval.vector_index import VectorIndex

FORMAT_VERSION: Final = 1
#: Objects that are encoded at a time.
CHUNK_OBJECTS: Final = 2**16
_WANTED: Final = "build it again with `object2vec index`"

Encode = Callable[[Sequences, Side], Float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectIndex:
    """N objects of `side` and their vectors (N, D).

    `recommender` is None if the model gives objects no single score; `refusal` then says why.
    """

    side: Side
    objects: Objects
    vectors: Float32
    neighbors: VectorIndex
    recommender: Recommender | None = None
    refusal: str = ""

    @classmethod
    def build(
        cls, objects: Objects, encode: Encode, network: Network, *, encoded: Callable[[int], object] = int
    ) -> ObjectIndex:
        """Encode objects, and build the search among them. `encoded` is called with each number of encoded objects."""
        from object2vec.retrieval.recommender import Recommender
        from object2vec.retrieval.vector_index import VectorIndex

        vectors = _encode(objects, encode, encoded)
        recommender, refusal = None, ""
        try:
            recommender = Recommender.build(network, vectors, SIDES.index(objects.side))
        except UserError as error:
            refusal = str(error)
        return cls(
            side=objects.side,
            objects=objects,
            vectors=vectors,
            neighbors=VectorIndex.build(vectors, "cosine"),
            recommender=recommender,
            refusal=refusal,
        )

    @property
    def description(self) -> dict[str, Any]:
        """Return how the index searches, in JSON values."""
        return {
            "objects": len(self.objects),
            "columns": self.objects.columns,
            "neighbors": dict(self.neighbors.description),
            "recommendations": dict(self.recommender.description) if self.recommender else {"refused": self.refusal},
        }

    def fills(self, prefix: str) -> dict[str, Callable[[Path], object]]:
        """Return the names of the index's files, each with a function that writes it to a path."""
        return {
            f"{prefix}objects.arrow": self.objects.write_table,
            f"{prefix}keys.npy": self.objects.write_keys,
            f"{prefix}vectors.npy": partial(write_array, self.vectors),
            **self.neighbors.fills(f"{prefix}neighbors."),
            **(self.recommender.fills(f"{prefix}recommender.") if self.recommender else {}),
        }

    def write(self, directory: Path) -> None:
        """Write the index into the directory of its model, and remove an older one of its side.

        Raises:
            AlgorithmError: the files cannot be written; an older index is unchanged.
        """
        stem = manifest_name(self.side).removesuffix("json")
        prefix = f"{stem}b." if (directory / f"{stem}a.keys.npy").exists() else f"{stem}a."
        fills = self.fills(prefix)
        manifest = {
            "format_version": FORMAT_VERSION,
            "object2vec_version": object2vec.__version__,
            "model": artifact.fingerprint(directory),
            "prefix": prefix,
            **self.description,
        }

        def write_manifest(path: Path) -> None:
            files = {name: (path.parent / name).stat().st_size for name in fills}
            path.write_text(json.dumps(manifest | {"files": files}, indent=2, ensure_ascii=False) + "\n", "utf-8")

        try:
            write_atomically(directory, fills | {f"{stem}json": write_manifest})
            for path in directory.glob(f"{stem}*"):
                if path.name != f"{stem}json" and not path.name.startswith(prefix):
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise AlgorithmError(f"{directory}: the index cannot be written ({error.strerror or error})") from error

    @classmethod
    def open(cls, directory: Path, side: Side, network: Network, schema: Schema | None) -> ObjectIndex:
        """Open the index of a side in the directory of its model, with memory-mapped files.

        Raises:
            ArtifactError: there is none, it is of another model or of another format, or a file is damaged.
        """
        from object2vec.retrieval.recommender import Recommender
        from object2vec.retrieval.vector_index import VectorIndex

        manifest = read_manifest(directory, side)
        prefix, refusal = manifest["prefix"], manifest["recommendations"].get("refused", "")
        recommender = None
        try:
            objects = Objects.open(schema, side, directory / f"{prefix}objects.arrow", directory / f"{prefix}keys.npy")
            vectors = open_array(directory / f"{prefix}vectors.npy")
            if not len(objects) == len(vectors) == manifest["objects"]:
                raise ValueError(f"{len(objects)} objects and {len(vectors)} vectors")
            neighbors = VectorIndex.open(directory, f"{prefix}neighbors.", vectors)
            if not refusal:
                number = SIDES.index(side)
                recommender = Recommender.open(directory, f"{prefix}recommender.", network, vectors, number)
        except ArtifactError as error:
            raise ArtifactError(f"{error}; {_WANTED}") from error
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{directory / prefix}*: damaged index ({error}); {_WANTED}") from error
        return cls(
            side=side,
            objects=objects,
            vectors=vectors,
            neighbors=neighbors,
            recommender=recommender,
            refusal=refusal,
        )


def manifest_name(side: Side) -> str:
    """Return the name of the manifest of a side's index."""
    return f"index-{side}.json"


def indexed_sides(directory: Path) -> list[Side]:
    """Return the sides that have an index in a model directory."""
    return [side for side in SIDES if (directory / manifest_name(side)).is_file()]


def read_manifest(directory: Path, side: Side) -> Mapping[str, Any]:
    """Return the manifest of the index of a side. Its files are complete, and belong to the model.

    Raises:
        ArtifactError: there is no index; or it is of another model or of another format, or a file is truncated.
    """
    path = directory / manifest_name(side)
    if not path.is_file():
        raise ArtifactError(f"{directory}: no index of {side}; build one with `object2vec index`")
    manifest = read_object(path, f"wanted an index; {_WANTED}", ArtifactError)
    if manifest.get("format_version") != FORMAT_VERSION:
        found = f"an index of format {manifest.get('format_version')}, wanted {FORMAT_VERSION}"
        raise ArtifactError(f"{path}: {found}; {_WANTED}")
    if manifest.get("model") != artifact.fingerprint(directory):
        raise ArtifactError(f"{path}: an index of another model, wanted one of the weights here; {_WANTED}")
    files = manifest.get("files")
    parts = [manifest.get(name) for name in ("neighbors", "recommendations", "files")]
    if not isinstance(manifest.get("prefix"), str) or not all(isinstance(part, dict) for part in parts):
        raise ArtifactError(f"{path}: not a manifest of an index; {_WANTED}")
    for name, size in (files or {}).items():
        with suppress(OSError):
            if "/" not in name and (directory / name).stat().st_size == size:
                continue
        raise ArtifactError(f"{directory / name}: missing or truncated; {_WANTED}")
    return manifest


def _encode(objects: Objects, encode: Encode, encoded: Callable[[int], object]) -> Float32:
    """Return the vectors of all objects, in a temporary file."""
    parts, width = AppendOnlyArray(np.float32), 0
    try:
        for start in range(0, len(objects), CHUNK_OBJECTS):
            found = encode(objects.sequences(start, min(start + CHUNK_OBJECTS, len(objects))), objects.side)
            parts.append(found.ravel())
            width = found.shape[1]
            encoded(len(found))
        return parts.as_array().reshape(len(objects), width)
    finally:
        parts.close()
