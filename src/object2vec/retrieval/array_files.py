"""Files of arrays, which are memory-mapped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from object2vec.errors import ArtifactError


def write_array(array: Any, path: Path) -> None:
    """Write an array to a file that `open_array` reads."""
    with path.open("wb") as file:
        np.save(file, array)


def open_array(path: Path) -> Any:
    """Memory-map an array.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    try:
        return np.load(path, mmap_mode="r")
    except (EOFError, OSError, ValueError) as error:  # numpy's sentences are about pickle
        raise ArtifactError(f"{path}: missing or damaged, wanted an array") from error
