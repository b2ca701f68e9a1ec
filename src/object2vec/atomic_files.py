"""Write files atomically: a reader sees a complete file, or none."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

#: Files are written in this folder of their directory first. The next write removes what a killed process left in it.
STAGING_DIR: Final = ".unfinished"
BLOCK_BYTES: Final = 2**20


def write_atomically(directory: Path, fills: Mapping[str, Callable[[Path], object]]) -> None:
    """Write files of a directory: `fills` maps their names to functions that write to a path.

    When all are complete on the disk, each is renamed into place, in the given order.
    """
    staging = directory / STAGING_DIR
    staging.mkdir(exist_ok=True)
    try:
        for name, fill in fills.items():
            fill(staging / name)
            (staging / name).chmod(0o644)  # readable by all who can enter the directory
            _sync(staging / name)
        for name in fills:
            (staging / name).replace(directory / name)
            _sync(directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


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
