"""Find the files of a channel; open text files, decompress them, and detect their format."""

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

from object2vec.atomic_files import write_atomically
from object2vec.errors import DataError, UserError, shortened
from object2vec.storage import S3Path, parse_address

#: Seconds that the writer of a pipe may take to open it, or to send more.
PIPE_IDLE_SECONDS: Final = 900.0
#: Bytes of the largest accepted JSON object: ten times a vocabulary of three million words.
MAX_OBJECT_BYTES: Final = 2**29
#: Bytes at the start of a file that identify its format; a tar archive has its signature at byte 257.
HEAD_BYTES: Final = 512
UTF8_BOM: Final = b"\xef\xbb\xbf"
GZIP_MAGIC: Final = b"\x1f\x8b"
#: Errors of opening and reading a file that is missing or damaged.
READ_ERRORS: Final = (EOFError, OSError, zlib.error)
TAR: Final = "a tar archive"
#: First bytes, name and advice for formats that are detected but not read. No text begins with these bytes.
FORMATS: Final = (
    (rb"(?s:.{257})ustar", TAR, "unpack it"),
    (rb"PK(\x03\x04|\x05\x06|\x07\x08)", "a zip archive", "unpack it, or compress each file with gzip"),
    (rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", "bzip2 data", "decompress it, or compress it with gzip"),
    (rb"\xfd7zXZ\0", "xz data", "decompress it, or compress it with gzip"),
    (rb"\x28\xb5\x2f\xfd", "zstd data", "decompress it, or compress it with gzip"),
    (rb"\x04\x22\x4d\x18", "lz4 data", "decompress it, or compress it with gzip"),
    (rb"\xff\x06\0\0sNaPpY", "snappy data", "decompress it, or compress it with gzip"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it, or compress each file with gzip"),
    (rb"PAR[1E](?![ \t,])", "a Parquet file", "save it as JSON Lines"),
    (rb"ORC[\0-\x08]", "an ORC file", "save it as JSON Lines"),
    (rb"Obj\x01", "an Avro file", "save it as JSON Lines"),
    (rb"ARROW1\0", "an Arrow file", "save it as JSON Lines"),
    (rb"\x0a\x23\xd7\xce", "RecordIO-protobuf data", "save it as JSON Lines"),
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file", "save it as text"),
    (rb"\x93NUMPY", "a NumPy array", "save it as text"),
)


def local_path(text: str | Path, *, output: bool = False, streamed: bool = False) -> Path:
    """Return a local path, to read or for `output`. If it is `streamed`, it may be in S3.

    Raises:
        UserError: the text is an address like `s3://bucket/key`, or a `Path` of one, which has lost a slash.
    """
    address = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}", str(text))
    if isinstance(text, S3Path):
        return text
    if not address or (isinstance(text, Path) and text.exists()):
        return Path(text)
    whole = f"{address[1]}://{str(text)[address.end() :]}"
    if streamed and parse_address(whole):
        return S3Path(whole)
    if address[1].lower() == "file":
        raise UserError(f"{whole}: not a path; leave out file://")
    if output:
        raise UserError(f"{whole}: {address[1]}:// is not written yet; write to a folder and copy it from there")
    raise UserError(f"{whole}: {address[1]}:// is not read yet; copy it to a folder first")


def write_output(path: Path, text: str) -> None:
    """Write a text file whole or not at all; missing folders are made.

    Raises:
        UserError: it cannot be written.
    """
    try:
        write_atomically(path.parent, {path.name: lambda staged: staged.write_text(text, "utf-8")})
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}, wanted a file that can be written") from error


def iter_files(path: Path) -> Iterator[Path]:
    """Yield `path` if it is a file or a pipe, otherwise all files below the folder, in the order of their names.

    Skip names that start with `.` or `_`: other programs write them as markers (`_SUCCESS`, `.DS_Store`). Follow links,
    except to a folder that contains the link.

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
    """Open a file or a named pipe and return its UTF-8 text, see `open_text`.

    Raises:
        DataError: the file has another format.
        OSError, EOFError, zlib.error: the file is missing or damaged, see `READ_ERRORS`.
    """
    return open_text(open_pipe(file) if file.is_fifo() else file.open("rb"), str(file))


def open_pipe(pipe: Path) -> io.BufferedReader:
    """Open a named pipe for reading; reads raise `TimeoutError` if no data arrives."""
    return io.BufferedReader(_Pipe(pipe))


def open_text(stream: io.BufferedReader, name: str) -> BinaryIO:
    """Return the UTF-8 text of a stream: decompress gzip, and skip a byte order mark.

    Detect the format by the first bytes; `name` is only for errors. Closing the result closes the stream, and so does
    an error.

    Raises:
        DataError: the stream has another format.
    """
    text = stream
    try:
        text = decompressed(stream)
        head = text.peek(HEAD_BYTES)[:HEAD_BYTES]
        if unsupported := describe_format(head) or describe_encoding(head):
            raise DataError(f"{name}: {unsupported}")
        if head.startswith(UTF8_BOM):
            text.read(len(UTF8_BOM))
    except BaseException:
        text.close()
        raise
    return text


def decompressed(stream: io.BufferedReader) -> io.BufferedReader:
    """Return the stream, decompressed if its first bytes are those of gzip."""
    is_gzip = stream.peek(HEAD_BYTES).startswith(GZIP_MAGIC)
    return cast(io.BufferedReader, _GzipStream(stream)) if is_gzip else stream


class _GzipStream(gzip.GzipFile):
    """The decompressed bytes of a stream; closing it closes the stream."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        super().__init__(fileobj=stream)

    def close(self) -> None:
        super().close()
        self._stream.close()


def describe_format(head: bytes) -> str:
    """Return the format of these first bytes and advice, or an empty string for text."""
    if head.startswith(GZIP_MAGIC):
        return "gzip data inside other data; decompress it first"
    return "; ".join(recognize(head))


def recognize(head: bytes) -> tuple[str, ...]:
    """Return the name of the format of these first bytes, and advice; nothing for text and gzip."""
    return next(((what, advice) for start, what, advice in FORMATS if re.match(start, head)), ())


def describe_encoding(head: bytes) -> str:
    """Return the encoding and advice for UTF-16 or UTF-32 text, otherwise an empty string.

    Without a byte order mark, detect it by the positions of zero bytes: most characters here are ASCII.
    """
    quarter = len(head) // 4
    zeros = [head[place : 4 * quarter : 4].count(0) for place in range(4)]
    utf32 = quarter and [quarter] * 2 in (zeros[:2], zeros[2:]) and 0 in (zeros[0], zeros[3])
    if utf32 or head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "UTF-32 text; save it as UTF-8"
    even_zeros, odd_zeros = zeros[0] + zeros[2], zeros[1] + zeros[3]
    # Three of four characters have a zero byte, all of them in even or all of them in odd positions.
    utf16 = quarter and min(even_zeros, odd_zeros) == 0 and max(even_zeros, odd_zeros) >= 1.5 * quarter
    if utf16 or head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16 text; save it as UTF-8"
    return ""


class _Pipe(io.RawIOBase):
    """The reading end of a named pipe. Reads raise `TimeoutError` if no data arrives in time."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # does not wait for a writer
        self._events = select.poll()
        self._events.register(self._file, select.POLLIN)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; fewer bytes mean that the writer closed its end."""
        view, count = memoryview(buffer), 0
        while count < len(view):
            if not self._events.poll(1000 * PIPE_IDLE_SECONDS):
                raise TimeoutError(f"no data has arrived in the pipe for {PIPE_IDLE_SECONDS:g} s")
            if not (got := os.readv(self._file, [view[count:]])):
                break
            count += got
        return count

    def close(self) -> None:
        if not self.closed:
            os.close(self._file)
        super().close()


def read_object(path: Path, wanted: str, error: type[UserError] = UserError) -> dict[str, Any]:
    """Read a JSON object from a file: UTF-8, UTF-16 or UTF-32, compressed with gzip or not. 3.0 is the integer 3.

    Errors are of the class `error`, and their messages end with `wanted`.

    Raises:
        UserError: the file cannot be read, is not a JSON object, or has one name with two values.
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
        if unsupported := describe_format(text[:HEAD_BYTES]):
            raise error(f"{path}: {unsupported}; {wanted}")
        if len(text) > MAX_OBJECT_BYTES:
            raise error(f"{path}: larger than {MAX_OBJECT_BYTES >> 20} MiB, {wanted}")
        document = json.loads(text, object_pairs_hook=unique, parse_float=_parse_float)
    except READ_ERRORS as problem:
        raise error(f"{path}: {getattr(problem, 'strerror', None) or problem}, {wanted}") from problem
    except (ValueError, RecursionError) as problem:
        raise error(f"{path}: not JSON ({problem}), {wanted}") from problem
    if not isinstance(document, dict):
        raise error(f"{path}: not an object, {wanted}")
    return document


def _parse_float(text: str) -> float:
    """Return a whole number as an integer: some tools write 3 as 3.0."""
    number = float(text)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _read_limited(path: Path) -> bytes:
    """Read and decompress a file, but not much more than the largest accepted object."""
    with path.open("rb") as stream:
        text, content = decompressed(stream), bytearray()
        while len(content) <= MAX_OBJECT_BYTES and (block := text.read(2**20)):
            content += block
        return bytes(content)
