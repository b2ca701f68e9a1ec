"""Which files a channel has."""

from __future__ import annotations

import gzip
from pathlib import Path

from object2vec.data.files import files_of, open_file


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


def test_a_gz_file_is_decompressed(tmp_path: Path) -> None:
    """Names that end in .gz are read decompressed, and the others as they are."""
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"plain"))
    (tmp_path / "x").write_bytes(b"plain")
    for name in ("x", "x.gz"):
        with open_file(tmp_path / name) as stream:
            assert stream.read() == b"plain"
