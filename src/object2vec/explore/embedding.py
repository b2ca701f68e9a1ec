"""A projection that keeps neighbors, t-SNE of openTSNE. It runs in another process, and the model keeps the result.

Shapes: N objects, K neighbors.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np

from object2vec.array_types import Float32
from object2vec.atomic_files import write_atomically
from object2vec.errors import AlgorithmError
from object2vec.explore.projection import centered
from object2vec.retrieval.object_index import ObjectIndex

PERPLEXITY: Final = 30
#: Steps of openTSNE: those with exaggeration, and those after it.
STEPS: Final = 250 + 500
MIN_OBJECTS: Final = 50
CHUNK_OBJECTS: Final = 4096


def is_possible(count: int) -> bool:
    """Return whether the projection can be computed: openTSNE is installed, and there are enough objects."""
    return count >= MIN_OBJECTS and find_spec("openTSNE") is not None


def read_embedding(directory: Path, index: ObjectIndex) -> Float32 | None:
    """Return the points (N, 2) that a model directory has for these vectors; None if it has none."""
    with (
        suppress(OSError, ValueError, KeyError, EOFError, BadZipFile),
        (directory / _name(index)).open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        points = stored["points"]
        if str(stored["vectors"]) == _checksum(index) and points.shape == (len(index.objects), 2):
            return np.asarray(points, np.float32)
    return None


def write_embedding(directory: Path, index: ObjectIndex, points: Float32) -> None:
    """Keep points in a model directory; without effect if it cannot be written."""

    def fill(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, points=points, vectors=np.array(_checksum(index)))

    if directory.is_dir():
        with suppress(OSError):
            write_atomically(directory, {_name(index): fill})


def embed(index: ObjectIndex, start: Float32, progress: Callable[[float], object]) -> Float32:
    """Return the points (N, 2) of objects; `progress` is called with the share that is done.

    Args:
        index: the objects.
        start: points to start from, (N, 2).
        progress: called now and then.

    Raises:
        AlgorithmError: the process failed.
    """
    rows, distances = _nearest(index, min(3 * PERPLEXITY, len(index.objects) - 1))
    with tempfile.TemporaryDirectory(prefix="object2vec-") as folder:
        given, found = Path(folder, "given.npz"), Path(folder, "points.npy")
        np.savez(given, rows=rows, distances=distances, start=start)
        command = [
            sys.executable,
            "-P",
            "-m",
            "object2vec.explore.embedding_process",
            str(given),
            str(found),
            str(STEPS),
        ]
        with (
            Path(folder, "errors").open("w+b") as errors,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,  # noqa: S603 -- our own
        ):
            try:
                for line in process.stdout or ():
                    progress(int(line) / STEPS)
            finally:
                process.terminate()
            process.wait()
            errors.seek(0)
            if not found.exists():
                last = errors.read().decode(errors="replace").strip().rpartition("\n")[2]
                raise AlgorithmError(f"the projection failed: {last or f'status {process.returncode}'}")
        return centered(np.asarray(np.load(found), np.float32))


def _nearest(index: ObjectIndex, k: int) -> tuple[Any, Any]:
    """Return the nearest objects (N, K) of each object, and their distances on the unit sphere."""
    parts = []
    for at in range(0, len(index.objects), CHUNK_OBJECTS):
        own = np.arange(at, min(at + CHUNK_OBJECTS, len(index.objects)))
        parts.append(index.neighbors.search(index.vectors[own], k, excluded=list(own[:, None])))
    rows, scores = (np.concatenate(each) for each in zip(*parts, strict=True))
    return rows, np.sqrt(np.maximum(2 - 2 * scores.astype(np.float64), 0))


def _name(index: ObjectIndex) -> str:
    return f"map-{index.side}.npz"


def _checksum(index: ObjectIndex) -> str:
    return hashlib.blake2b(np.ascontiguousarray(index.vectors).data, digest_size=16).hexdigest()
