"""Which files a channel consists of, how one is opened, and how one that holds a JSON object is read."""

from __future__ import annotations

import gzip
import io
import json
import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from object2vec.errors import DataError, UserError

#: Seconds that whoever writes into a pipe may take to open it, or to send more.
PATIENCE: Final = 900.0
#: Bytes of the largest JSON object that is read: a vocabulary of three million words has a tenth of it.
LARGEST: Final = 2**29


def files_of(path: Path) -> Iterator[Path]:
    """`path` itself if it is a file or a pipe, else every file in it and in its folders, in the order of their names.

    Names that start with `.` or `_` are markers of other programs (`_SUCCESS`, `.DS_Store`), and left out. Links are
    followed, but for one that leads back to a folder that it is in.

    Raises:
        DataError: a folder cannot be read.
    """
    if path.is_dir():
        yield from _files_in(path, ())
    elif path.exists():
        yield path


def _files_in(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
        here = folder.resolve()
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}, wanted a folder that can be read") from error
    for entry in entries if here not in above else ():
        if not entry.name.startswith((".", "_")):
            yield from _files_in(entry, (*above, here)) if entry.is_dir() else [entry]


def open_file(file: Path) -> BinaryIO:
    """A file's bytes; one whose name ends in `.gz` is decompressed on the way.

    A pipe has its writer's bytes, once there is one, and is decompressed where they begin as gzip's do.
    """
    if file.is_fifo():
        stream = io.BufferedReader(_Pipe(file))
        return cast(BinaryIO, gzip.open(stream)) if stream.peek(2)[:2] == b"\x1f\x8b" else stream
    return cast(BinaryIO, gzip.open(file)) if file.suffix == ".gz" else file.open("rb")


class _Pipe(io.RawIOBase):
    """The reading end of a pipe. It waits for whoever writes, but not for ever.

    Raises:
        TimeoutError: nobody writes.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # waits for nobody who opens the other end
        self._events = select.poll()
        self._events.register(self._file, select.POLLIN)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as there is something, nothing at the end."""
        if not self._events.poll(1000 * PATIENCE):
            raise TimeoutError(f"nobody has written into the pipe for {PATIENCE:g} s")
        return os.readv(self._file, [buffer])

    def close(self) -> None:
        if not self.closed:
            os.close(self._file)
        super().close()


def read_object(path: Path, wanted: str, error: type[UserError] = UserError) -> dict[str, Any]:
    """The JSON object in a file; `wanted` ends the sentence that says why there is none.

    Raises:
        UserError: it cannot be read, or is no JSON object; of the class `error`.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise error(f"{path}: larger than {LARGEST >> 20} MiB, {wanted}")
        document = json.loads(path.read_bytes())
    except OSError as problem:
        raise error(f"{path}: {problem.strerror or problem}, {wanted}") from problem
    except (ValueError, RecursionError) as problem:
        raise error(f"{path}: not JSON ({problem}), {wanted}") from problem
    if not isinstance(document, dict):
        raise error(f"{path}: not an object, {wanted}")
    return document
