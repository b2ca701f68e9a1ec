"""Which files a channel has."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path

import pytest

from object2vec.data import files
from object2vec.data.files import _files_in, files_of, open_file, read_object
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
    found = [file.relative_to(tmp_path).as_posix() for file in files_of(tmp_path)]
    assert found == ["a/1.jsonl", "a/2.jsonl", "a_b.c", "b.jsonl"]


def test_a_file_is_itself_and_nothing_is_nothing(tmp_path: Path) -> None:
    """A file stands for itself, whatever its name; a path that is not there has no files."""
    file = tmp_path / "_one"
    file.write_text("x")
    assert list(files_of(file)) == [file]
    assert list(files_of(tmp_path / "none")) == []


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    """A link to a folder is a folder and one to a file a file; one that leads back to where it is gives nothing."""
    for name in ("channel/a/1", "elsewhere/2", "elsewhere/deep/3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "channel" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "channel" / "c").symlink_to(tmp_path / "elsewhere" / "2")
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "channel")
    (tmp_path / "channel" / "a" / "self").symlink_to(tmp_path / "channel" / "a")
    found = [file.relative_to(tmp_path / "channel").as_posix() for file in files_of(tmp_path / "channel")]
    assert found == ["a/1", "b/2", "b/deep/3", "c"]


def test_a_link_that_leads_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    """Data that is not there is met when it is opened."""
    (tmp_path / "x").symlink_to(tmp_path / "gone")
    (file,) = files_of(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_file(file)


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A folder that goes away while it is read is missed, not passed over."""
    with pytest.raises(DataError, match="gone: No such file or directory, wanted a folder that can be read"):
        list(_files_in(tmp_path / "gone", ()))


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_a_pipe_is_a_file_that_is_read_once(tmp_path: Path, packed: bool) -> None:
    """A pipe stands for itself, and what is written into it is read to its end, decompressed if it is gzip."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert list(files_of(pipe)) == [pipe]
    content = b"plain" * 50_000
    parts = [gzip.compress(content[:70_000]), gzip.compress(content[70_000:])] if packed else [content]
    writer = threading.Thread(target=lambda: pipe.write_bytes(b"".join(parts)), daemon=True)
    writer.start()
    with open_file(pipe) as stream:
        assert stream.read() == content
    writer.join()


def test_an_object_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is no configuration is not read into memory to find that out."""
    monkeypatch.setattr(files, "LARGEST", 2**20)
    (tmp_path / "x.json").write_bytes(b" " * 2**21)
    with pytest.raises(UserError, match="larger than 1 MiB, wanted an object"):
        read_object(tmp_path / "x.json", "wanted an object")


@pytest.mark.parametrize("text", ["[" * 10_000, '{"a": ' * 10_000, '{"a": 1e', "\0", '{"a": ' + "9" * 5000 + "}"])
def test_what_is_no_object_is_a_sentence(tmp_path: Path, text: str) -> None:
    """Depth, zeros and numbers without end are no JSON that can be read."""
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=r"x\.json: not JSON .*, wanted an object"):
        read_object(tmp_path / "x.json", "wanted an object")


def test_a_gz_file_is_decompressed(tmp_path: Path) -> None:
    """Names that end in .gz are read decompressed, and the others as they are."""
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"plain"))
    (tmp_path / "x").write_bytes(b"plain")
    for name in ("x", "x.gz"):
        with open_file(tmp_path / name) as stream:
            assert stream.read() == b"plain"
