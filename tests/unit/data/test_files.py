"""The files of a channel, and the formats of text files."""

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


def test_files_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    """A folder's files and those of its folders come sorted, without what other programs leave behind."""
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


def test_a_file_is_itself_and_nothing_is_nothing(tmp_path: Path) -> None:
    """A file stands for itself, whatever its name; a path that is not there has no files."""
    file = tmp_path / "_one"
    file.write_text("x")
    assert list(iter_files(file)) == [file]
    assert list(iter_files(tmp_path / "none")) == []


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    """A link to a folder is a folder and one to a file a file; one that leads back to where it is gives nothing."""
    for name in ("channel/a/1", "elsewhere/2", "elsewhere/deep/3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "channel" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "channel" / "c").symlink_to(tmp_path / "elsewhere" / "2")
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "channel")
    (tmp_path / "channel" / "a" / "self").symlink_to(tmp_path / "channel" / "a")
    found = [file.relative_to(tmp_path / "channel").as_posix() for file in iter_files(tmp_path / "channel")]
    assert found == ["a/1", "b/2", "b/deep/3", "c"]


def test_a_link_that_leads_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    """Data that is not there is met when it is opened."""
    (tmp_path / "x").symlink_to(tmp_path / "gone")
    (file,) = iter_files(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_file(file)


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A folder that goes away while it is read is missed, not passed over."""
    with pytest.raises(DataError, match="gone: No such file or directory, wanted a folder that can be read"):
        list(_iter_folder(tmp_path / "gone", ()))


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_a_pipe_is_a_file_that_is_read_once(tmp_path: Path, packed: bool) -> None:
    """A pipe stands for itself, and what is written into it is read to its end, decompressed if it is gzip."""
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


def test_an_object_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is no configuration is not read into memory to find that out."""
    monkeypatch.setattr(files, "MAX_OBJECT_BYTES", 2**20)
    (tmp_path / "x.json").write_bytes(b" " * 2**21)
    with pytest.raises(UserError, match="larger than 1 MiB, wanted an object"):
        read_object(tmp_path / "x.json", "wanted an object")


@pytest.mark.parametrize("text", ["[" * 10_000, '{"a": ' * 10_000, '{"a": 1e', "\0", '{"a": ' + "9" * 5000 + "}"])
def test_what_is_no_object_is_a_sentence(tmp_path: Path, text: str) -> None:
    """Depth, zeros and numbers without end are no JSON that can be read."""
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=r"x\.json: not JSON .*, wanted an object"):
        read_object(tmp_path / "x.json", "wanted an object")


def content_of(path: Path, content: bytes, *, through: str = "file") -> bytes:
    """What `open_file` reads of a file, or of a pipe that gets its bytes one at a time at first."""
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
def test_first_bytes_tell_the_format(tmp_path: Path, name: str, content: bytes, through: str) -> None:
    """Text and gzip are read whatever the name says; a byte order mark is left out."""
    assert content_of(tmp_path / name, content, through=through) == GOOD


@pytest.mark.parametrize("content", [b"", gzip.compress(b"")], ids=["nothing", "gzip of nothing"])
@THROUGH
def test_empty_files_are_empty(tmp_path: Path, content: bytes, through: str) -> None:
    """A file without bytes is read as no text, compressed or not."""
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
def test_formats_that_are_not_read_are_named(tmp_path: Path, content: bytes, sentence: str, through: str) -> None:
    """Archives, other compressions, tables and encodings get a sentence with the format and what to do."""
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
    """A pretrained file whose first word looks like a signature is text."""
    assert content_of(tmp_path / "x", content) == content


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_an_object_is_read_in_each_encoding(tmp_path: Path, encoding: str, packed: bool) -> None:
    """JSON objects, such as vocabularies and hyperparameters, are read in all encodings of Unicode and in gzip."""
    content = '{"Ü": 7}'.encode(encoding)
    (tmp_path / "x.json").write_bytes(gzip.compress(content) if packed else content)
    assert read_object(tmp_path / "x.json", "wanted an object") == {"Ü": 7}


@pytest.mark.parametrize("kind", ["zip", "bzip2", "parquet", "tar.gz"])
def test_an_object_in_another_format_is_named(tmp_path: Path, kind: str) -> None:
    """A JSON object that comes in an archive gets the sentence of its format."""
    content, sentence = UNREAD[kind]
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError) as raised:
        read_object(tmp_path / "x.json", "wanted an object")
    assert str(raised.value) == f"{tmp_path}/x.json: {sentence}; wanted an object"


def test_an_object_in_damaged_gzip_is_named(tmp_path: Path) -> None:
    """A compressed object that ends too early is no traceback."""
    (tmp_path / "x.json").write_bytes(gzip.compress(b'{"a": 1}')[:-9])
    with pytest.raises(UserError, match=r"x\.json: Compressed file ended .*, wanted an object"):
        read_object(tmp_path / "x.json", "wanted an object")


def test_an_object_in_gzip_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small compressed file may not expand to more than the limit."""
    monkeypatch.setattr(files, "MAX_OBJECT_BYTES", 2**20)
    (tmp_path / "x.json").write_bytes(gzip.compress(b" " * 2**23))
    with pytest.raises(UserError, match="larger than 1 MiB, wanted an object"):
        read_object(tmp_path / "x.json", "wanted an object")


@pytest.mark.parametrize("text", ["s3://bucket/train", "S3://bucket/train", "gs://bucket/train", "https://host/train"])
@pytest.mark.parametrize("kind", [str, Path])
def test_an_address_is_not_a_path(text: str, kind: type[str | Path]) -> None:
    """An address gets a sentence that shows it whole, also where a Path has lost a slash."""
    scheme = text.partition(":")[0]
    with pytest.raises(UserError) as raised:
        local_path(kind(text))
    assert str(raised.value) == f"{text}: {scheme}:// is not read yet; copy it to a folder first"


def test_a_file_address_is_not_a_path() -> None:
    """The sentence says which part to leave out."""
    with pytest.raises(UserError, match=r"^file:///data/train: not a path; leave out file://$"):
        local_path("file:///data/train")


@pytest.mark.parametrize("text", ["/data/train", "train", "./s3:/x", "C:/data", "a:b"])
def test_a_path_is_a_path(text: str) -> None:
    """Whatever else is a path."""
    assert local_path(text) == Path(text)


def test_a_folder_named_like_an_address_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Path that exists is no address."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "x").mkdir(parents=True)
    assert local_path(Path("s3:/x")) == Path("s3:/x")
