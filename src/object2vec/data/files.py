"""The files of a channel, and text files in general: opened, decompressed, their format recognized."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import select
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from object2vec.errors import DataError, UserError, shortened

#: Seconds that whoever writes into a pipe may take to open it, or to send more.
PIPE_IDLE_SECONDS: Final = 900.0
#: Bytes of the largest JSON object that is read: a vocabulary of three million words has a tenth of it.
MAX_OBJECT_BYTES: Final = 2**29
#: Bytes at the start of a file that tell its format; a tar archive has its signature at byte 257.
HEAD_BYTES: Final = 512
UTF8_BOM: Final = b"\xef\xbb\xbf"
GZIP_MAGIC: Final = b"\x1f\x8b"
#: What opening and reading a file can raise when the file is missing or damaged.
READ_ERRORS: Final = (EOFError, OSError, zlib.error)
#: First bytes of formats that are recognized and not read, with a name and advice. No text begins with any of them.
FORMATS: Final = (
    (rb"PK(\x03\x04|\x05\x06|\x07\x08)", "a zip archive", "unpack it, or compress each file with gzip"),
    (rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", "bzip2 data", "decompress it, or compress it with gzip"),
    (rb"\xfd7zXZ\0", "xz data", "decompress it, or compress it with gzip"),
    (rb"\x28\xb5\x2f\xfd", "zstd data", "decompress it, or compress it with gzip"),
    (rb"\x04\x22\x4d\x18", "lz4 data", "decompress it, or compress it with gzip"),
    (rb"\xff\x06\0\0sNaPpY", "snappy data", "decompress it, or compress it with gzip"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it, or compress each file with gzip"),
    (rb"(?s:.{257})ustar", "a tar archive", "unpack it"),
    (rb"PAR[1E](?![ \t,])", "a Parquet file", "save it as JSON Lines"),
    (rb"ORC[\0-\x08]", "an ORC file", "save it as JSON Lines"),
    (rb"Obj\x01", "an Avro file", "save it as JSON Lines"),
    (rb"ARROW1\0", "an Arrow file", "save it as JSON Lines"),
    (rb"\x0a\x23\xd7\xce", "RecordIO-protobuf data", "save it as JSON Lines"),
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file", "save it as text"),
    (rb"\x93NUMPY", "a NumPy array", "save it as text"),
)


def local_path(text: str | Path, *, output: bool = False) -> Path:
    """Return a path on this machine, to be read or for `output`.

    Raises:
        UserError: it is an address like `s3://bucket/key`, of which a `Path` has lost a slash.
    """
    address = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}", str(text))
    if not address or (isinstance(text, Path) and text.exists()):
        return Path(text)
    whole = f"{address[1]}://{str(text)[address.end() :]}"
    if address[1].lower() == "file":
        raise UserError(f"{whole}: not a path; leave out file://")
    if output:
        raise UserError(f"{whole}: {address[1]}:// is not written yet; write to a folder and copy it from there")
    raise UserError(f"{whole}: {address[1]}:// is not read yet; copy it to a folder first")


def iter_files(path: Path) -> Iterator[Path]:
    """`path` itself if it is a file or a pipe, else every file in it and in its folders, in the order of their names.

    Names that start with `.` or `_` are markers of other programs (`_SUCCESS`, `.DS_Store`), and left out. Links are
    followed, but for one that leads back to a folder that it is in.

    Raises:
        DataError: a folder cannot be read.
    """
    if path.is_dir():
        yield from _iter_folder(path, ())
    elif path.exists():
        yield path


def _iter_folder(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
        here = folder.resolve()
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}, wanted a folder that can be read") from error
    for entry in entries if here not in above else ():
        if not entry.name.startswith((".", "_")):
            yield from _iter_folder(entry, (*above, here)) if entry.is_dir() else [entry]


def open_file(file: Path) -> BinaryIO:
    """Open a file or a named pipe and return its text as bytes of UTF-8, see `open_text`.

    Raises:
        DataError: the first bytes are those of a format that is not read.
        OSError, EOFError, zlib.error: the file is missing or damaged, see `READ_ERRORS`.
    """
    return open_text(open_pipe(file) if file.is_fifo() else file.open("rb"), str(file))


def open_pipe(pipe: Path) -> io.BufferedReader:
    """Open a named pipe and return the bytes that its writer sends; `TimeoutError` comes where there is no writer."""
    return io.BufferedReader(_Pipe(pipe))


def open_text(stream: io.BufferedReader, name: str) -> BinaryIO:
    """Return the UTF-8 text of a stream: gzip is decompressed and a byte order mark left out.

    The first bytes tell the format; the name, which errors begin with, does not matter. Closing the result closes the
    stream, and so does an error.

    Raises:
        DataError: the first bytes are those of a format that is not read.
    """
    text = stream
    try:
        if stream.peek(HEAD_BYTES).startswith(GZIP_MAGIC):
            text = cast(io.BufferedReader, _GzipStream(stream))
        head = text.peek(HEAD_BYTES)[:HEAD_BYTES]
        if fault := describe_format(head) or describe_encoding(head):
            raise DataError(f"{name}: {fault}")
        if head.startswith(UTF8_BOM):
            text.read(len(UTF8_BOM))
    except BaseException:
        text.close()
        raise
    return text


class _GzipStream(gzip.GzipFile):
    """The decompressed bytes of a stream, which is closed with it."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        super().__init__(fileobj=stream)

    def close(self) -> None:
        super().close()
        self._stream.close()


def describe_format(head: bytes) -> str:
    """Return what a file's first bytes are, and what to do, if they are no text; else an empty string."""
    if head.startswith(GZIP_MAGIC):
        return "gzip data inside other data; decompress it first"
    return next((f"{what}; {advice}" for start, what, advice in FORMATS if re.match(start, head)), "")


def describe_encoding(head: bytes) -> str:
    """Return which encoding a text has by its first bytes, and what to do, if it is UTF-16 or UTF-32.

    Without a byte order mark, the places of zero bytes tell: most characters of the formats read here are ASCII.
    """
    quarter = len(head) // 4
    zeros = [head[place : 4 * quarter : 4].count(0) for place in range(4)]
    utf32 = quarter and (
        (zeros[0] == 0 and zeros[2:] == [quarter] * 2) or (zeros[3] == 0 and zeros[:2] == [quarter] * 2)
    )
    if utf32 or head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "UTF-32 text; save it as UTF-8"
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    utf16 = quarter and min(even, odd) == 0 and max(even, odd) >= 1.5 * quarter  # three of four characters
    if utf16 or head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16 text; save it as UTF-8"
    return ""


class _Pipe(io.RawIOBase):
    """The reading end of a named pipe, which waits for its writer for a limited time.

    Raises:
        TimeoutError: nobody writes.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # does not wait for a writer
        self._events = select.poll()
        self._events.register(self._file, select.POLLIN)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; fewer bytes mean that the writer has closed its end."""
        view, count = memoryview(buffer), 0
        while count < len(view):
            if not self._events.poll(1000 * PIPE_IDLE_SECONDS):
                raise TimeoutError(f"nobody has written into the pipe for {PIPE_IDLE_SECONDS:g} s")
            if not (got := os.readv(self._file, [view[count:]])):
                break
            count += got
        return count

    def close(self) -> None:
        if not self.closed:
            os.close(self._file)
        super().close()


def read_object(path: Path, wanted: str, error: type[UserError] = UserError) -> dict[str, Any]:
    """Read the JSON object in a file: UTF-8, UTF-16 or UTF-32, compressed with gzip or not.

    `wanted` ends the sentence of each error.

    Raises:
        UserError: the file cannot be read, is no JSON object, or gives one name two values; of the class `error`.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        document = dict(pairs)
        if len(document) < len(pairs):
            for name, value in pairs:
                if value != document[name]:
                    raise error(f"{path}: {shortened(repr(name))} is there twice with different values, {wanted}")
        return document

    try:
        text = _read_limited(path)
        if fault := describe_format(text[:HEAD_BYTES]):
            raise error(f"{path}: {fault}; {wanted}")
        if len(text) > MAX_OBJECT_BYTES:
            raise error(f"{path}: larger than {MAX_OBJECT_BYTES >> 20} MiB, {wanted}")
        document = json.loads(text, object_pairs_hook=unique)
    except READ_ERRORS as problem:
        raise error(f"{path}: {getattr(problem, 'strerror', None) or problem}, {wanted}") from problem
    except (ValueError, RecursionError) as problem:
        raise error(f"{path}: not JSON ({problem}), {wanted}") from problem
    if not isinstance(document, dict):
        raise error(f"{path}: not an object, {wanted}")
    return document


def _read_limited(path: Path) -> bytes:
    """Read a file, decompressed, up to one byte more than the largest object has."""
    with path.open("rb") as stream:
        text = cast(BinaryIO, _GzipStream(stream)) if stream.peek(HEAD_BYTES).startswith(GZIP_MAGIC) else stream
        content = bytearray()
        while len(content) <= MAX_OBJECT_BYTES and (block := text.read(2**20)):
            content += block
        return bytes(content)
