"""Files that are whole or not there, and their checksums."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from object2vec.atomic_files import BLOCK_BYTES, STAGING_DIR, checksum, write_atomically


def test_files_come_when_all_of_them_are_there(tmp_path: Path) -> None:
    """Nothing takes its place while one is still to be filled; then all do, for anybody to read."""

    def second(aside: Path) -> None:
        assert not (tmp_path / "a").exists()
        aside.write_text("two")

    write_atomically(tmp_path, {"a": lambda aside: aside.write_text("one"), "b": second})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "one", "b": "two"}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}


def test_files_that_cannot_be_filled_leave_those_from_before(tmp_path: Path) -> None:
    """Not even the first of them takes its place."""
    (tmp_path / "a").write_text("before")

    def fail(_: Path) -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        write_atomically(tmp_path, {"a": lambda aside: aside.write_text("one"), "b": fail})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "before"}


def test_a_new_directory_is_removed_after_an_error(tmp_path: Path) -> None:
    def fail(_: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "x" / "new", {"a": fail})
    assert list(tmp_path.iterdir()) == []
    write_atomically(tmp_path / "x" / "new", {"a": Path.touch})
    assert [path.name for path in (tmp_path / "x" / "new").iterdir()] == ["a"]


def test_what_a_killed_process_left_aside_goes(tmp_path: Path) -> None:
    """The name of the file makes no difference."""
    (tmp_path / STAGING_DIR).mkdir()
    (tmp_path / STAGING_DIR / ".tmpA1b2C3").write_text("half")
    write_atomically(tmp_path, {"a": Path.touch})
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1])
def test_a_checksum_is_that_of_all_bytes(tmp_path: Path, size: int) -> None:
    """Files of one block and of several are compared."""
    content = bytes(n % 251 for n in range(1000)) * (size // 1000 + 1)
    (tmp_path / "a").write_bytes(content[:size])
    assert checksum(tmp_path / "a") == f"{zlib.crc32(content[:size]):08x}"
