"""Which files a channel consists of, and how one is opened."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast


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
