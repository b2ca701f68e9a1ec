"""Write files atomically: a reader sees a complete file, or none."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

#: Files are written in this folder of their directory first. The next write removes what a killed process left in it.
STAGING_DIR: Final = ".unfinished"
BLOCK_BYTES: Final = 2**20


def write_atomically(directory: Path, fills: Mapping[str, Callable[[Path], object]]) -> None:
    """Write files of a directory, which need not exist: `fills` maps their names to functions that write to a path.

    When all are complete on the disk, each is renamed into place, in the given order.
    """
    with staged(directory, fills) as staging:
        for name, fill in fills.items():
            fill(staging / name)


@contextmanager
def staged(directory: Path, names: Iterable[str]) -> Iterator[Path]:
    """Yield a folder to write files and folders of these names in, which replace those of the directory at the end.

    Each is renamed into place, in the given order, when all are complete on the disk. Those that are not written are
    removed from the directory. After an error, the directory is as before.
    """
    staging = directory / STAGING_DIR
    with parent_folders(staging):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        try:
            yield staging
            for path in sorted(staging.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)  # readable by all who can enter the directory
                _sync(path)
            for name in names:
                if (directory / name).is_dir():
                    shutil.rmtree(directory / name)
                if (staging / name).exists():
                    (staging / name).replace(directory / name)
                else:
                    (directory / name).unlink(missing_ok=True)
                _sync(directory)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def parent_folders(path: Path) -> Iterator[None]:
    """Make the missing folders of a path, and remove those of them that are empty at the end."""
    missing = [folder for folder in path.parents if not folder.exists()]
    try:
        if missing:
            path.parent.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for folder in missing:
            with suppress(OSError):  # it has files
                folder.rmdir()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksum(path: Path) -> str:
    """Return the CRC-32 of a file, in hexadecimal digits."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            value = zlib.crc32(block, value)
    return f"{value:08x}"
