"""Which files a channel consists of, how one is opened, and how a small one of JSON is read."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from object2vec.errors import UserError


def files_of(path: Path) -> Iterator[Path]:
    """`path` itself if it is a file, else every file in it and in its folders, in the order of their names.

    Names that start with `.` or `_` are markers of other programs (`_SUCCESS`, `.DS_Store`), and left out.
    """
    if path.is_file():
        yield path
    elif path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts):
                yield file


def open_file(file: Path) -> BinaryIO:
    """A file's bytes; one whose name ends in `.gz` is decompressed on the way."""
    return cast(BinaryIO, gzip.open(file)) if file.suffix == ".gz" else file.open("rb")


def read_object(path: Path, wanted: str, error: type[UserError] = UserError) -> dict[str, Any]:
    """The JSON object in a file; `wanted` ends the sentence that says why there is none.

    Raises:
        UserError: it cannot be read, or is no JSON object; of the class `error`.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as problem:
        raise error(f"{path}: {problem.strerror or problem}, {wanted}") from problem
    except (ValueError, RecursionError) as problem:
        raise error(f"{path}: not JSON ({problem}), {wanted}") from problem
    if not isinstance(document, dict):
        raise error(f"{path}: not an object, {wanted}")
    return document
