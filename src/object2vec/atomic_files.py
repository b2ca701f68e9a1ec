"""Files that are whole on the disk, or not there."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

#: A folder beside a file that is being written. What a process that was killed has left in it goes with the next file.
STAGING_DIR: Final = ".unfinished"
BLOCK_BYTES: Final = 2**20


def write_atomically(directory: Path, fills: Mapping[str, Callable[[Path], object]]) -> None:
    """Fill files aside, by name, and when all of them are on the disk, put each in its place in a directory at once.

    They come to their places in the given order, and no later one before an earlier one.
    """
    aside = directory / STAGING_DIR
    aside.mkdir(exist_ok=True)
    try:
        for name, fill in fills.items():
            fill(aside / name)
            (aside / name).chmod(0o644)  # whoever may enter the directory may read the file
            _sync(aside / name)
        for name in fills:
            (aside / name).replace(directory / name)
            _sync(directory)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksum(path: Path) -> str:
    """The CRC-32 of a file, in hexadecimal digits."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            value = zlib.crc32(block, value)
    return f"{value:08x}"
