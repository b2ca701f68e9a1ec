"""Files that are whole on the disk, or not there."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

#: A folder beside a file that is being written. What a process that was killed has left in it goes with the next file.
ASIDE: Final = ".unfinished"
BLOCK: Final = 2**20


def write_whole(path: Path, fill: Callable[[Path], object]) -> None:
    """Fill a file aside, make sure that it is on the disk, and put it in the place of `path` at once."""
    aside = path.parent / ASIDE
    aside.mkdir(exist_ok=True)
    try:
        fill(aside / path.name)
        (aside / path.name).chmod(0o644)  # whoever may enter the folder may read the file
        _sync(aside / path.name)
        (aside / path.name).replace(path)
        _sync(path.parent)
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
        while block := file.read(BLOCK):
            value = zlib.crc32(block, value)
    return f"{value:08x}"
