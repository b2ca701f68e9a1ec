"""Files of a channel, and formats of text files."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import threading
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from object2vec.data import files
from object2vec.data.files import UTF8_BOM, _iter_folder, iter_files, local_path, open_file, read_object
from object2vec.errors import DataError, UserError


def test_files_are_sorted_without_markers(tmp_path: Path) -> None:
    """Files of a folder and its subfolders, without the markers of other programs."""
    for name in (
        "b.jsonl",
        "a/2.jsonl",
        "a/1.jsonl",
        "_SUCCESS",
        ".DS_Store",
        "a/.hidden",
        "_tmp/x",
        ".git/x",
        "a_b.c",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = [file.relative_to(tmp_path).as_posix() for file in iter_files(tmp_path)]
    assert found == ["a/1.jsonl", "a/2.jsonl", "a_b.c", "b.jsonl"]


def test_single_file_and_missing_path(tmp_path: Path) -> None:
    """A file of any name gives itself; a missing path gives no files."""
    file = tmp_path / "_one"
    file.write_text("x")
    assert list(iter_files(file)) == [file]
    assert list(iter_files(tmp_path / "none")) == []


def test_links_are_followed_without_loops(tmp_path: Path) -> None:
    """A link to a containing folder is skipped."""
    for name in ("channel/a/1", "elsewhere/2", "elsewhere/deep/3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "channel" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "channel" / "c").symlink_to(tmp_path / "elsewhere" / "2")
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "channel")
    (tmp_path / "channel" / "a" / "self").symlink_to(tmp_path / "channel" / "a")
    found = [file.relative_to(tmp_path / "channel").as_posix() for file in iter_files(tmp_path / "channel")]
    assert found == ["a/1", "b/2", "b/deep/3", "c"]


def test_broken_link_is_not_skipped(tmp_path: Path) -> None:
    """The error comes when it is opened."""
    (tmp_path / "x").symlink_to(tmp_path / "gone")
    (file,) = iter_files(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_file(file)


def test_unreadable_folder_is_named(tmp_path: Path) -> None:
    """A folder that disappears during reading is an error."""
    with pytest.raises(DataError, match="gone: No such file or directory, wanted a folder that can be read"):
        list(_iter_folder(tmp_path / "gone", ()))


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_pipe_is_read_to_its_end(tmp_path: Path, packed: bool) -> None:
    """Gzip is decompressed."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert list(iter_files(pipe)) == [pipe]
    content = b"plain" * 50_000
    parts = [gzip.compress(content[:70_000]), gzip.compress(content[70_000:])] if packed else [content]
    writer = threading.Thread(target=lambda: pipe.write_bytes(b"".join(parts)), daemon=True)
    writer.start()
    with open_file(pipe) as stream:
        assert stream.read() == content
    writer.join()


def test_large_json_object_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file is not read into memory."""
    monkeypatch.setattr(files, "MAX_OBJECT_BYTES", 2**20)
    (tmp_path / "x.json").write_bytes(b" " * 2**21)
    with pytest.raises(UserError, match="larger than 1 MiB, wanted an object"):
        read_object(tmp_path / "x.json", "wanted an object")


@pytest.mark.parametrize("text", ["[" * 10_000, '{"a": ' * 10_000, '{"a": 1e', "\0", '{"a": ' + "9" * 5000 + "}"])
def test_invalid_json_object_is_an_error(tmp_path: Path, text: str) -> None:
    """Deep nesting, zero bytes and huge numbers."""
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=r"x\.json: not JSON .*, wanted an object"):
        read_object(tmp_path / "x.json", "wanted an object")


def content_of(path: Path, content: bytes, *, through: str = "file") -> bytes:
    """Read a file with `open_file`, or a pipe whose first bytes arrive one at a time."""
    if through == "file":
        path.write_bytes(content)
        with open_file(path) as stream:
            return stream.read()
    os.mkfifo(path)
    writer = threading.Thread(target=write_slowly, args=(path, content), daemon=True)
    writer.start()
    try:
        with open_file(path) as stream:
            return stream.read()
    finally:
        writer.join()


def write_slowly(pipe: Path, content: bytes) -> None:
    with suppress(BrokenPipeError), pipe.open("wb", buffering=0) as stream:
        for place in range(4):
            stream.write(content[place : place + 1])
        stream.write(content[4:])


GOOD = b'{"in0": [1, 2], "in1": [3], "label": 1}\n'
THROUGH = pytest.mark.parametrize("through", ["file", "pipe"])
NAMES = pytest.mark.parametrize("name", ["part-0000", "a.jsonl", "a.jsonl.gz", "a.jsonl.GZ", "a.gzip", "a.bz2"])


@THROUGH
@NAMES
@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        UTF8_BOM + GOOD,
        gzip.compress(GOOD),
        gzip.compress(UTF8_BOM + GOOD),
        gzip.compress(GOOD[:9]) + gzip.compress(b"") + gzip.compress(GOOD[9:]),
    ],
    ids=["plain", "byte order mark", "gzip", "byte order mark in gzip", "gzip in several members"],
)
def test_format_is_detected_by_first_bytes(tmp_path: Path, name: str, content: bytes, through: str) -> None:
    """The name does not matter; a byte order mark is skipped."""
    assert content_of(tmp_path / name, content, through=through) == GOOD


@pytest.mark.parametrize("content", [b"", gzip.compress(b"")], ids=["nothing", "gzip of nothing"])
@THROUGH
def test_empty_file_is_empty_text(tmp_path: Path, content: bytes, through: str) -> None:
    """Compressed or not."""
    assert content_of(tmp_path / "x.gz", content, through=through) == b""


def archive(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as packed:
            packed.writestr("a.jsonl", GOOD)
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz" if kind == "tar.gz" else "w") as tar:
            entry = tarfile.TarInfo("a.jsonl")
            entry.size = len(GOOD)
            tar.addfile(entry, io.BytesIO(GOOD))
    return buffer.getvalue()


TEXT = GOOD.decode() * 3
UNREAD = {
    "zip": (archive("zip"), "a zip archive; unpack it, or compress each file with gzip"),
    "empty zip": (b"PK\5\6" + b"\0" * 18, "a zip archive; unpack it, or compress each file with gzip"),
    "bzip2": (bz2.compress(GOOD), "bzip2 data; decompress it, or compress it with gzip"),
    "bzip2 of nothing": (bz2.compress(b""), "bzip2 data; decompress it, or compress it with gzip"),
    "xz": (lzma.compress(GOOD), "xz data; decompress it, or compress it with gzip"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04\x58" + GOOD, "zstd data; decompress it, or compress it with gzip"),
    "lz4": (b"\x04\x22\x4d\x18" + GOOD, "lz4 data; decompress it, or compress it with gzip"),
    "tar": (archive("tar"), "a tar archive; unpack it"),
    "tar.gz": (archive("tar.gz"), "a tar archive; unpack it"),
    "parquet": (b"PAR1\x15\x04\x15\x20", "a Parquet file; save it as JSON Lines"),
    "avro": (b"Obj\x01\x04\x14avro", "an Avro file; save it as JSON Lines"),
    "orc": (b"ORC\x08\x03", "an ORC file; save it as JSON Lines"),
    "recordio": (struct.pack("<II", 0xCED7230A, 8) + b"12345678", "RecordIO-protobuf data; save it as JSON Lines"),
    "gzip twice": (gzip.compress(gzip.compress(GOOD)), "gzip data inside other data; decompress it first"),
    "utf-16": (TEXT.encode("utf-16"), "UTF-16 text; save it as UTF-8"),
    "utf-16-be with a mark": (b"\xfe\xff" + TEXT.encode("utf-16-be"), "UTF-16 text; save it as UTF-8"),
    "utf-16-le": (TEXT.encode("utf-16-le"), "UTF-16 text; save it as UTF-8"),
    "utf-16-be": (TEXT.encode("utf-16-be"), "UTF-16 text; save it as UTF-8"),
    "utf-16 in gzip": (gzip.compress(TEXT.encode("utf-16")), "UTF-16 text; save it as UTF-8"),
    "utf-16-le, words": ("的 0.12 -0.3 1e-3\n".encode("utf-16-le"), "UTF-16 text; save it as UTF-8"),
    "utf-32": (TEXT.encode("utf-32"), "UTF-32 text; save it as UTF-8"),
    "utf-32-le": (TEXT.encode("utf-32-le"), "UTF-32 text; save it as UTF-8"),
    "utf-32-be": (TEXT.encode("utf-32-be"), "UTF-32 text; save it as UTF-8"),
}


@THROUGH
@pytest.mark.parametrize(("content", "sentence"), UNREAD.values(), ids=list(UNREAD))
def test_unsupported_format_is_named(tmp_path: Path, content: bytes, sentence: str, through: str) -> None:
    """The error has the format and advice."""
    with pytest.raises(DataError) as raised:
        content_of(tmp_path / "part-0000", content, through=through)
    assert str(raised.value) == f"{tmp_path}/part-0000: {sentence}"


@pytest.mark.parametrize(
    "content",
    [
        b"PK 0.1 0.2\n",
        b"BZh9 0.1\n",
        b"PAR1 0.1 0.2\n",
        b"PAR1\t0.1\n",
        b"ORC 0.1\n",
        b"ustar 0.1\n",
        b"Obj 1\n",
        b"7z 1\n",
    ],
)
def test_words_like_signatures_are_text(tmp_path: Path, content: bytes) -> None:
    """A pretrained file may start with a word that looks like a signature."""
    assert content_of(tmp_path / "x", content) == content


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_json_object_is_read_in_each_encoding(tmp_path: Path, encoding: str, packed: bool) -> None:
    """All encodings of Unicode, and gzip."""
    content = '{"Ü": 7}'.encode(encoding)
    (tmp_path / "x.json").write_bytes(gzip.compress(content) if packed else content)
    assert read_object(tmp_path / "x.json", "wanted an object") == {"Ü": 7}


@pytest.mark.parametrize("kind", ["zip", "bzip2", "parquet", "tar.gz"])
def test_json_object_in_another_format_is_named(tmp_path: Path, kind: str) -> None:
    """The error has the format and advice."""
    content, sentence = UNREAD[kind]
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError) as raised:
        read_object(tmp_path / "x.json", "wanted an object")
    assert str(raised.value) == f"{tmp_path}/x.json: {sentence}; wanted an object"


def test_json_object_in_damaged_gzip_is_named(tmp_path: Path) -> None:
    """A truncated file is an error that names it."""
    (tmp_path / "x.json").write_bytes(gzip.compress(b'{"a": 1}')[:-9])
    with pytest.raises(UserError, match=r"x\.json: Compressed file ended .*, wanted an object"):
        read_object(tmp_path / "x.json", "wanted an object")


def test_large_json_object_in_gzip_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small compressed file may not expand beyond the limit."""
    monkeypatch.setattr(files, "MAX_OBJECT_BYTES", 2**20)
    (tmp_path / "x.json").write_bytes(gzip.compress(b" " * 2**23))
    with pytest.raises(UserError, match="larger than 1 MiB, wanted an object"):
        read_object(tmp_path / "x.json", "wanted an object")


@pytest.mark.parametrize("text", ["s3://bucket/train", "S3://bucket/train", "gs://bucket/train", "https://host/train"])
@pytest.mark.parametrize("kind", [str, Path])
def test_address_is_rejected(text: str, kind: type[str | Path]) -> None:
    """The error shows the whole address, also if a Path has lost a slash."""
    scheme = text.partition(":")[0]
    with pytest.raises(UserError) as raised:
        local_path(kind(text))
    assert str(raised.value) == f"{text}: {scheme}:// is not read yet; copy it to a folder first"


def test_file_address_is_rejected() -> None:
    """The error says what to leave out."""
    with pytest.raises(UserError, match=r"^file:///data/train: not a path; leave out file://$"):
        local_path("file:///data/train")


@pytest.mark.parametrize("text", ["/data/train", "train", "./s3:/x", "C:/data", "a:b"])
def test_path_is_accepted(text: str) -> None:
    """Everything else is a path."""
    assert local_path(text) == Path(text)


def test_folder_named_like_an_address_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Path that exists is not an address."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "x").mkdir(parents=True)
    assert local_path(Path("s3:/x")) == Path("s3:/x")


def test_whole_floats_in_a_json_object_are_integers(tmp_path: Path) -> None:
    """Some tools write 3 as 3.0; larger numbers than a float holds exactly, and fractions, stay floats."""
    (tmp_path / "x.json").write_text('{"a": 3.0, "b": [-1e0], "c": 0.5, "d": 1e300, "e": 1e999}')
    document = read_object(tmp_path / "x.json", "wanted an object")
    assert document == {"a": 3, "b": [-1], "c": 0.5, "d": 1e300, "e": float("inf")}
    assert [type(document["a"]), type(document["b"][0]), type(document["d"])] == [int, int, float]
