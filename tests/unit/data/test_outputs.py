"""Outputs of the command: complete, or missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from object2vec.data import outputs
from object2vec.errors import UserError


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ZeroDivisionError()])
def test_error_of_another_file_does_not_name_the_output(tmp_path: Path, error: Exception) -> None:
    """The error passes as it is, and no file is left."""
    with pytest.raises(type(error)), outputs.writing(str(tmp_path / "out")):
        raise error
    assert not list(tmp_path.iterdir())


def test_error_of_the_output_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as raised, outputs.writing(str(tmp_path / "file" / "out")):
        raise AssertionError
    assert str(raised.value) == f"--output {tmp_path}/file/out: Not a directory"


def test_missing_folders_are_made_unless_there_is_an_error(tmp_path: Path) -> None:
    output = tmp_path / "a" / "b" / "out"
    with pytest.raises(ZeroDivisionError), outputs.writing(str(output)):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    with outputs.writing(str(output)) as file:
        file.write(b"x")
    assert output.read_bytes() == b"x"


def test_full_disk_is_an_error_of_the_output() -> None:
    """The last bytes leave when the file is closed."""
    with pytest.raises(UserError) as raised, outputs.writing("/dev/full") as file:
        file.write(b"x")
    assert str(raised.value) == "--output /dev/full: No space left on device"


def test_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    with outputs.writing(str(tmp_path / "out")) as file:
        file.write(b"x")
        assert not (tmp_path / "out").exists()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("out", b"x")]
